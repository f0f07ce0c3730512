"""Blocks of several convolutions of YOLOv5 and YOLOv7.

The names of classes and attributes are those that their checkpoints record, so that tensors fit by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from yoloqat.detectors.anchor.activations import activation
from yoloqat.detectors.anchor.layers import Conv, batch_norm, space_to_depth


class Bottleneck(nn.Module):
    """A 1 x 1 and a 3 x 3 convolution, with a residual where the channels allow it."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        shortcut: bool = True,
        groups: int = 1,
        expansion: float = 0.5,
        act: str,
    ) -> None:
        super().__init__()
        hidden = int(outputs * expansion)
        self.cv1 = Conv(inputs, hidden, act=act)
        self.cv2 = Conv(hidden, outputs, 3, groups=groups, act=act)
        self.add = shortcut and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height, width)."""
        result: Tensor = self.cv2(self.cv1(x))
        return x + result if self.add else result


class C3(nn.Module):
    """YOLOv5's cross-stage partial block (CSPNet, arXiv:1911.11929) with three 1 x 1 convolutions."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        repeats: int = 1,
        *,
        shortcut: bool = True,
        groups: int = 1,
        expansion: float = 0.5,
        act: str,
    ) -> None:
        super().__init__()
        hidden = int(outputs * expansion)
        self.cv1 = Conv(inputs, hidden, act=act)
        self.cv2 = Conv(inputs, hidden, act=act)
        self.cv3 = Conv(2 * hidden, outputs, act=act)
        self.m = nn.Sequential(
            *(
                Bottleneck(hidden, hidden, shortcut=shortcut, groups=groups, expansion=1.0, act=act)
                for _ in range(repeats)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height, width)."""
        result: Tensor = self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))
        return result


def _pools(kernels: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(nn.MaxPool2d(kernel, 1, kernel // 2) for kernel in kernels)


class SPP(nn.Module):
    """Spatial pyramid pooling (arXiv:1406.4729): poolings of several sizes side by side."""

    def __init__(self, inputs: int, outputs: int, kernels: Sequence[int] = (5, 9, 13), *, act: str) -> None:
        super().__init__()
        hidden = inputs // 2
        self.cv1 = Conv(inputs, hidden, act=act)
        self.cv2 = Conv(hidden * (len(kernels) + 1), outputs, act=act)
        self.m = _pools(kernels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height, width)."""
        x = self.cv1(x)
        result: Tensor = self.cv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))
        return result


class SPPF(nn.Module):
    """Equal to :class:`SPP`, computed by one pooling applied three times in a row."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 5, *, act: str) -> None:
        super().__init__()
        hidden = inputs // 2
        self.cv1 = Conv(inputs, hidden, act=act)
        self.cv2 = Conv(hidden * 4, outputs, act=act)
        self.m = nn.MaxPool2d(kernel, 1, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height, width)."""
        parts = [self.cv1(x)]
        for _ in range(3):
            parts.append(self.m(parts[-1]))
        result: Tensor = self.cv2(torch.cat(parts, 1))
        return result


class SPPCSPC(nn.Module):
    """YOLOv7's spatial pyramid pooling in a cross-stage partial block."""

    def __init__(self, inputs: int, outputs: int, *, expansion: float = 0.5, act: str) -> None:
        super().__init__()
        hidden = int(2 * outputs * expansion)
        self.cv1 = Conv(inputs, hidden, act=act)
        self.cv2 = Conv(inputs, hidden, act=act)
        self.cv3 = Conv(hidden, hidden, 3, act=act)
        self.cv4 = Conv(hidden, hidden, act=act)
        self.m = _pools((5, 9, 13))
        self.cv5 = Conv(4 * hidden, hidden, act=act)
        self.cv6 = Conv(hidden, hidden, 3, act=act)
        self.cv7 = Conv(2 * hidden, outputs, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height, width)."""
        deep = self.cv4(self.cv3(self.cv1(x)))
        deep = self.cv6(self.cv5(torch.cat([deep, *(pool(deep) for pool in self.m)], 1)))
        result: Tensor = self.cv7(torch.cat((deep, self.cv2(x)), 1))
        return result


class DownC(nn.Module):
    """YOLOv7-E6's down-sampling: a strided convolution beside a pooling, half of the channels each."""

    def __init__(self, inputs: int, outputs: int, *, factor: int = 2, act: str) -> None:
        super().__init__()
        self.cv1 = Conv(inputs, inputs, act=act)
        self.cv2 = Conv(inputs, outputs // 2, 3, factor, act=act)
        self.cv3 = Conv(inputs, outputs // 2, act=act)
        self.mp = nn.MaxPool2d(factor, factor)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height / factor, width / factor)."""
        return torch.cat((self.cv2(self.cv1(x)), self.cv3(self.mp(x))), 1)


class Focus(nn.Module):
    """YOLOv5's stem before version 6: pixels of 2 x 2 cells become channels, then a convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, act: str) -> None:
        super().__init__()
        self.conv = Conv(inputs * 4, outputs, kernel, stride, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height / 2 / stride, width / 2 / stride)."""
        result: Tensor = self.conv(space_to_depth(x))
        return result


class RepConv(nn.Module):
    """RepVGG's block (arXiv:2101.03697): a 3 x 3 and a 1 x 1 convolution and, where shapes allow, the identity, summed.

    All three are linear, so that one 3 x 3 convolution computes the same: once folded, `rbr_reparam` takes their place.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, groups: int = 1, act: str
    ) -> None:
        super().__init__()
        self.act = activation(act)
        self.rbr_identity = batch_norm(inputs) if inputs == outputs and stride == 1 else None
        self.rbr_dense: nn.Sequential | None = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), batch_norm(outputs)
        )
        self.rbr_1x1: nn.Sequential | None = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, groups=groups, bias=False), batch_norm(outputs)
        )
        self.rbr_reparam: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        if self.rbr_reparam is not None:
            folded: Tensor = self.act(self.rbr_reparam(x))
            return folded
        branches = [branch for branch in (self.rbr_dense, self.rbr_1x1, self.rbr_identity) if branch is not None]
        total = branches[0](x)
        for branch in branches[1:]:
            total = total + branch(x)
        result: Tensor = self.act(total)
        return result
