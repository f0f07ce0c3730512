"""All that is known of an engine's layers, joined from the files that tell of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from yoloqat.engines.reading.layer import INT8, UNKNOWN, Layer, nodes_of
from yoloqat.engines.reading.losses import Loss, known_by
from yoloqat.errors import EngineError
from yoloqat.results import Table, counted, number

SHOWN_LAYERS = 25


@dataclass(frozen=True)
class EngineReport:
    """The layers of an engine in order of execution.

    Attributes:
        layers: With types and times as far as the files told them.
        runtime: ``"tensorrt"`` or ``"openvino"``.
    """

    layers: tuple[Layer, ...]
    runtime: str

    @property
    def reformats(self) -> tuple[Layer, ...]:
        """The copies that only change a tensor's type or format."""
        return tuple(layer for layer in self.layers if layer.kind == "copy")

    @property
    def ms(self) -> float | None:
        """Time of one run in milliseconds, the sum over the layers; None where no file told times."""
        times = [layer.ms for layer in self.layers if layer.ms is not None]
        return sum(times) if times else None

    @property
    def detailed(self) -> bool:
        """Whether any file told types."""
        return any(layer.precision_in != UNKNOWN for layer in self.layers)

    def results(self, found: Sequence[Loss]) -> dict[str, Any]:
        """Return the result keys of ``engine-report``, JSON-able.

        Args:
            found: What costs time, see :func:`yoloqat.engines.reading.losses`.
        """
        return {
            "runtime": self.runtime,
            "layers": [
                {
                    "name": layer.name,
                    "type": layer.type,
                    "kind": layer.kind,
                    "precision_in": layer.precision_in,
                    "precision_out": layer.precision_out,
                    "ms": layer.ms,
                    "nodes": list(layer.nodes),
                }
                for layer in self.layers
            ],
            "reformats": [layer.name for layer in self.reformats],
            "ms": self.ms,
            "reformats_ms": EngineReport(self.reformats, self.runtime).ms,
            "int8_layers": sum(runs_int8(layer) for layer in self.layers),
            "findings": [loss.to_dict() for loss in found],
        }

    def table(self, title: str, top: int = SHOWN_LAYERS) -> Table:
        """Return the layers as a table: the slowest first where times are known, else in order of execution.

        Args:
            title: What the engine is called.
            top: How many to show; 0 shows all, in order of execution.
        """
        ranked = (
            sorted(self.layers, key=lambda layer: -(layer.ms or 0.0)) if top and self.ms is not None else self.layers
        )
        shown = ranked[: top or None]
        total = self.ms
        rows = tuple(
            (
                _title(layer),
                layer.precision_in.replace(UNKNOWN, "-"),
                layer.precision_out.replace(UNKNOWN, "-"),
                number(layer.ms, 4),
                "-" if not total or layer.ms is None else f"{100 * layer.ms / total:.1f} %",
            )
            for layer in shown
        )
        hidden = len(self.layers) - len(shown)
        lines = [f"{counted(hidden, 'more layer')} not shown"] if hidden else []
        lines += [] if total is None else [f"all layers: {total:.4f} ms"]
        lines += [] if self.detailed else ["no file tells types: build with --profilingVerbosity=detailed"]
        heading = f"{title}: {counted(len(self.layers), 'layer')}, {counted(len(self.reformats), 'reformat')}"
        return Table(heading, ("layer", "in", "out", "ms", "share"), rows, "\n".join(lines), left=(1, 2))


def runs_int8(layer: Layer) -> bool:
    """Return whether a layer computes in integers."""
    return layer.kind == "compute" and bool(INT8 & set(layer.precision_in.split("+")))


def _title(layer: Layer, width: int = 44) -> str:
    """Return what a table calls a layer: its first product, or what it does; the end of a long name tells most."""
    rest = len([name for name in layer.nodes if not name.endswith((".weight", ".bias"))]) - 1
    if layer.kind == "copy":
        name = layer.name.replace("Reformatting CopyNode for ", "copy: ")
    else:
        name = known_by(layer) + (f" +{rest}" if layer.kind == "compute" and rest > 0 else "")
    return name if len(name) <= width else f"...{name[3 - width :]}"


def with_times(layers: Sequence[Layer], times: Sequence[tuple[str, float]], sources: tuple[str, str]) -> list[Layer]:
    """Return layers with the times of a profile; what the profile alone names follows at the end.

    Args:
        layers: The layers.
        times: Name and milliseconds of each, of the same engine.
        sources: The files of both, named in errors.

    Raises:
        EngineError: They have no layer in common.
    """
    left: dict[str, list[float]] = {}
    for name, ms in times:
        left.setdefault(name, []).append(ms)
    check_one_engine([layer.name for layer in layers], [name for name, _ in times], sources)
    timed = [replace(layer, ms=left[layer.name].pop(0)) if left.get(layer.name) else layer for layer in layers]
    return timed + [Layer(name, nodes=nodes_of(name), ms=ms) for name, rest in left.items() for ms in rest]


def check_one_engine(names: Sequence[str], others: Sequence[str], sources: tuple[str, str]) -> None:
    """Refuse files that tell of different engines.

    Args:
        names: Of the layers in the first file.
        others: Of those in the second.
        sources: Both files.

    Raises:
        EngineError: Both tell of layers and have none in common.
    """
    if names and others and not set(names) & set(others):
        raise EngineError(
            f"'{sources[0]}' and '{sources[1]}' have no layer in common, e.g. '{names[0][:80]}' and '{others[0][:80]}'",
            expected="files of one engine",
            hint="name files of the same build, and report on another engine in a run of its own",
        )
