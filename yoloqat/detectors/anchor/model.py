"""A YOLOv5 or YOLOv7 as a module."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from yoloqat.detectors.anchor.head import Detect
from yoloqat.detectors.anchor.parse import Layer


class AnchorModel(nn.Module):
    """The layers of a description, run in its order.

    Args:
        layers: The description's entries, the head last.
        modules: Their modules.

    Attributes:
        model: The modules; `model[-1]` is the head.
        live: Places of the layers that the head depends on. The others are not run: they are inputs of a training head.
    """

    def __init__(self, layers: Sequence[Layer], modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.model = nn.ModuleList(modules)
        self.sources = tuple(layer.sources for layer in layers)
        self.listed = tuple(layer.listed for layer in layers)
        head = self.head
        self.sources = (*self.sources[:-1], self.sources[-1][: head.nl])
        self.live = _reachable(self.sources)

    @property
    def head(self) -> Detect:
        """The detection head."""
        head = self.model[-1]
        assert isinstance(head, Detect)  # noqa: S101 - the parser lets nothing else be last
        return head

    def levels(self, images: Tensor) -> list[Tensor]:
        """Return the head's inputs for ``images``, finest level first."""
        outputs: dict[int, Tensor] = {-1: images}
        last = len(self.model) - 1
        for index in self.live:
            if index == last:
                break
            inputs = [outputs[place] for place in self.sources[index]]
            outputs[index] = self.model[index](inputs if self.listed[index] else inputs[0])
        return [outputs[place] for place in self.sources[last]]

    def forward(self, images: Tensor) -> Tensor:
        """Detect.

        Args:
            images: (batch, 3, height, width), RGB in [0, 1]; sides are multiples of the largest stride.

        Returns:
            (batch, 4 + classes, anchors): centre x, centre y, width, height in pixels, then a score per class.
        """
        result: Tensor = self.head(self.levels(images))
        return result


def _reachable(sources: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the places of all layers that the last one depends on, itself included, in order."""
    found: set[int] = set()
    waiting = [len(sources) - 1]
    while waiting:
        place = waiting.pop()
        if place >= 0 and place not in found:
            found.add(place)
            waiting.extend(sources[place])
    return tuple(sorted(found))


def raw_heads(module: nn.Module, images: Tensor) -> list[Tensor]:
    """Return a detector's predictions before decoding, for distillation: gradients flow to all weights.

    Args:
        module: An :class:`AnchorModel`, float or with quantized layers, in training or evaluation mode.
        images: As :meth:`AnchorModel.forward` takes them.

    Returns:
        Per level, finest first, (batch, anchors, height, width, 5 + classes): x, y, width, height, object, classes, all
        before the sigmoid.

    Raises:
        TypeError: The module is no :class:`AnchorModel`.
    """
    if not isinstance(module, AnchorModel):
        raise TypeError(f"raw_heads takes an AnchorModel, not a {type(module).__name__}")
    levels = module.head.raw(module.levels(images))
    return [level.reshape(len(level), module.head.na, -1, *level.shape[2:]).permute(0, 1, 3, 4, 2) for level in levels]
