"""Instance norms with a quantized input."""

from __future__ import annotations

from torch import nn

from yoloqat.compat.pytorch_quantization.nn.modules._layers import InputLayer

__all__ = ["QuantInstanceNorm1d", "QuantInstanceNorm2d", "QuantInstanceNorm3d"]


class QuantInstanceNorm1d(InputLayer, nn.InstanceNorm1d):
    """1-D instance norm."""


class QuantInstanceNorm2d(InputLayer, nn.InstanceNorm2d):
    """2-D instance norm."""


class QuantInstanceNorm3d(InputLayer, nn.InstanceNorm3d):
    """3-D instance norm."""
