"""The placement plan: quantizer locations of a model and the scales they share, as a serialisable value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from yoloqat.errors import ModelError

VERSION = 1


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor that quantized layers read.

    Attributes:
        name: Module and operator that make it, e.g. ``"model.2.cv1.act:silu"``; ``"input"`` is the images.
        locations: Qualified names of the quantizers that its readers ask for, in the order of execution.
    """

    name: str
    locations: tuple[str, ...]


@dataclass(frozen=True)
class ScaleGroup:
    """Tensors with one scale, and so with one quantizer.

    Attributes:
        tensors: In the order in which they are first read.
    """

    tensors: tuple[PlannedTensor, ...]

    @property
    def owner(self) -> str:
        """The location that registers the quantizer: the first in the order of execution."""
        return self.tensors[0].locations[0]

    @property
    def locations(self) -> tuple[str, ...]:
        """All locations that use the quantizer, the owner first; each once, also where its layer runs several times."""
        return tuple(dict.fromkeys(location for tensor in self.tensors for location in tensor.locations))


@dataclass(frozen=True)
class PlacementPlan:
    """The placement of quantizers in a model.

    Attributes:
        groups: One per scale, in the order of execution.
        floats: Layers and operators that stay float by choice, each with the reason.
        unreached: Lines of text, one per operator that stays float because no quantizer reaches it.
    """

    groups: tuple[ScaleGroup, ...]
    floats: dict[str, str] = field(default_factory=dict)
    unreached: tuple[str, ...] = ()

    @property
    def aliases(self) -> dict[str, str]:
        """Each location that has no quantizer of its own, to the owner of the one it uses."""
        return {
            location: group.owner for group in self.groups for location in group.locations if location != group.owner
        }

    @property
    def locations(self) -> tuple[str, ...]:
        """All locations."""
        return tuple(location for group in self.groups for location in group.locations)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as a JSON-able dict."""
        return {
            "version": VERSION,
            "groups": [{tensor.name: list(tensor.locations) for tensor in group.tensors} for group in self.groups],
            "aliases": self.aliases,
            "floats": dict(self.floats),
            "unreached": list(self.unreached),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PlacementPlan:
        """Make a plan from the dict of :meth:`to_dict`.

        Raises:
            ModelError: The dict is of another version or damaged.
        """
        try:
            version = data["version"]
            groups = tuple(
                ScaleGroup(tuple(PlannedTensor(str(name), tuple(locations)) for name, locations in group.items()))
                for group in data["groups"]
            )
            plan = cls(groups, dict(data["floats"]), tuple(data["unreached"]))
            texts = (*plan.floats, *plan.floats.values(), *plan.unreached, *plan.locations)
            unfit = next((text for text in texts if not isinstance(text, str)), None)
            if unfit is not None:
                raise TypeError(f"a {type(unfit).__name__} instead of a text")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _unreadable(f"is damaged ({error!r})") from error
        if version != VERSION:
            raise _unreadable(f"is of version {version!r}")
        if not all(tensor.locations for group in groups for tensor in group.tensors) or not all(
            g.tensors for g in groups
        ):
            raise _unreadable("has a scale that nothing reads")
        return plan


def _unreadable(reason: str) -> ModelError:
    return ModelError(
        f"the stored placement {reason}", expected=f"version {VERSION}", hint="calibrate the float model again"
    )
