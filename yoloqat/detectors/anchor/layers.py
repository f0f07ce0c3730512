"""Layers without inner structure of YOLOv5 and YOLOv7.

The names of classes and attributes are those that their checkpoints record, so that tensors fit by name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yoloqat.detectors.anchor.activations import activation

BATCH_NORM_EPS = 1e-3
"""Settings of every batch-norm in both frameworks."""


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch-norm with the eps of both frameworks."""
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPS)


class Conv(nn.Module):
    """Convolution, batch-norm, activation; once folded, `bn` is the identity.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        kernel: Side of the kernel; odd ones are padded to keep the size at stride 1.
        stride: In both directions.
        padding: None for half the kernel.
        groups: Of the convolution.
        dilation: Of the convolution; it widens the padding that None stands for.
        act: The activation's text.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        padding: int | None = None,
        groups: int = 1,
        dilation: int = 1,
        act: str,
    ) -> None:
        super().__init__()
        if padding is None:
            padding = (dilation * (kernel - 1) + 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
        self.bn: nn.Module = batch_norm(outputs)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        result: Tensor = self.act(self.bn(self.conv(x)))
        return result


class Concat(nn.Module):
    """Concatenation of several layers' outputs along one dimension."""

    def __init__(self, dimension: int = 1) -> None:
        super().__init__()
        self.d = dimension

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Join the inputs."""
        return torch.cat(inputs, self.d)


class Shortcut(nn.Module):
    """Sum of two layers' outputs.

    Args:
        dimension: Named by descriptions, of no effect.
    """

    def __init__(self, dimension: int = 0) -> None:
        super().__init__()
        self.d = dimension

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Add the inputs, which have the same shape."""
        first, second = inputs
        return first + second


class MP(nn.Module):
    """Max pooling that divides the size by its kernel."""

    def __init__(self, kernel: int = 2) -> None:
        super().__init__()
        self.m = nn.MaxPool2d(kernel, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, channels, height / kernel, width / kernel)."""
        result: Tensor = self.m(x)
        return result


class SP(nn.Module):
    """Max pooling that keeps the size at stride 1."""

    def __init__(self, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.m = nn.MaxPool2d(kernel, stride, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (batch, channels, height, width)."""
        result: Tensor = self.m(x)
        return result


def space_to_depth(x: Tensor) -> Tensor:
    """Move each 2 x 2 cell into channels, (batch, channels, height, width) to (batch, 4 channels, height / 2, width / 2).

    The four parts are the cells' top left, bottom left, top right and bottom right pixels, in this order.
    """
    top, bottom = x[:, :, ::2], x[:, :, 1::2]
    return torch.cat((top[..., ::2], bottom[..., ::2], top[..., 1::2], bottom[..., 1::2]), 1)


class ReOrg(nn.Module):
    """YOLOv7's stem for large images: pixels of 2 x 2 cells become channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply :func:`space_to_depth`."""
        return space_to_depth(x)


class ImplicitA(nn.Module):
    """A learned vector added to the channels (YOLOR, arXiv:2105.04206); folded into the convolution behind it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.implicit = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Add to (batch, channels, height, width)."""
        return self.implicit + x


class ImplicitM(nn.Module):
    """A learned vector that the channels are multiplied by (YOLOR); folded into the convolution before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.implicit = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply (batch, channels, height, width)."""
        return self.implicit * x
