"""The anchor-based detection heads: raw predictions per level, and their decoding into boxes and scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from yoloqat.detectors.anchor.layers import ImplicitA, ImplicitM


def cell_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Return x and y of every cell of a level, row by row, as (2, height * width) of the type and device of ``like``."""
    rows = torch.arange(height, dtype=like.dtype, device=like.device)
    columns = torch.arange(width, dtype=like.dtype, device=like.device)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack((x, y)).reshape(2, -1)


def decode(raw: Tensor, anchors: Tensor, stride: float) -> Tensor:
    """Turn the output of one level into boxes and scores.

    With s = sigmoid(raw), the centre of a box is (2 s - 0.5 + cell) * stride and its size (2 s)^2 * anchor, as YOLOv5
    introduced and YOLOv7 kept. The score of a class is its probability times that of an object, which is what the
    suppression of both frameworks sorts and thresholds.

    Args:
        raw: (batch, anchors * (5 + classes), height, width): of each anchor x, y, width, height, object, classes.
        anchors: (anchors, 2), widths and heights in pixels.
        stride: Pixels per cell.

    Returns:
        (batch, 4 + classes, anchors * height * width): centre x, centre y, width, height in pixels, class scores.
    """
    batch, channels, height, width = raw.shape
    count = anchors.shape[0]
    s = raw.reshape(batch, count, channels // count, height * width).sigmoid()
    centre = (s[:, :, 0:2] * 2 - 0.5 + cell_grid(height, width, raw)) * stride
    size = (s[:, :, 2:4] * 2) ** 2 * anchors.unsqueeze(-1)
    scores = s[:, :, 5:] * s[:, :, 4:5]
    return torch.cat((centre, size, scores), 2).transpose(1, 2).reshape(batch, channels // count - 1, -1)


class Detect(nn.Module):
    """One 1 x 1 convolution per level, and the decoding.

    Args:
        channels: Of each level's input.
        classes: Number of classes.
        anchors: Number of anchors per level.
        strides: Pixels per cell of each level.

    Attributes:
        anchors: Buffer (levels, anchors, 2): widths and heights in pixels, of the checkpoint.
    """

    def __init__(self, channels: Sequence[int], *, classes: int, anchors: int, strides: Sequence[float]) -> None:
        super().__init__()
        self.nc = classes
        self.na = anchors
        self.nl = len(strides)
        self.stride = tuple(strides)
        self.anchors: Tensor
        self.register_buffer("anchors", torch.ones(self.nl, anchors, 2))
        self.m = nn.ModuleList(nn.Conv2d(count, anchors * (5 + classes), 1) for count in channels[: self.nl])

    def raw(self, levels: list[Tensor]) -> list[Tensor]:
        """Return the convolutions' outputs, per level (batch, anchors * (5 + classes), height, width)."""
        return [layer(level) for layer, level in zip(self.m, levels, strict=True)]

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return boxes and scores, (batch, 4 + classes, anchors of all levels); see :func:`decode`."""
        parts = [decode(raw, self.anchors[level], self.stride[level]) for level, raw in enumerate(self.raw(levels))]
        return torch.cat(parts, 2)


class IDetect(Detect):
    """YOLOv7's head: learned vectors before and behind each convolution, which fold into it."""

    def __init__(self, channels: Sequence[int], *, classes: int, anchors: int, strides: Sequence[float]) -> None:
        super().__init__(channels, classes=classes, anchors=anchors, strides=strides)
        self.ia = nn.ModuleList(ImplicitA(count) for count in channels[: self.nl])
        self.im = nn.ModuleList(ImplicitM(anchors * (5 + classes)) for _ in range(self.nl))

    def raw(self, levels: list[Tensor]) -> list[Tensor]:
        """Return the outputs per level, (batch, anchors * (5 + classes), height, width)."""
        return [
            after(layer(before(level)))
            for before, layer, after, level in zip(self.ia, self.m, self.im, levels, strict=True)
        ]


class IAuxDetect(IDetect):
    """The head of YOLOv7-W6 and larger in training: a second set of convolutions that inference does not use."""

    def __init__(self, channels: Sequence[int], *, classes: int, anchors: int, strides: Sequence[float]) -> None:
        super().__init__(channels, classes=classes, anchors=anchors, strides=strides)
        self.m2 = nn.ModuleList(nn.Conv2d(count, anchors * (5 + classes), 1) for count in channels[self.nl :])


HEADS: dict[str, type[Detect]] = {"Detect": Detect, "IDetect": IDetect, "IAuxDetect": IAuxDetect}
