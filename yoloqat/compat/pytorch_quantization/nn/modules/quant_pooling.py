"""Pools with a quantized input."""

from __future__ import annotations

from torch import nn

from yoloqat.compat.pytorch_quantization.nn.modules._layers import InputLayer

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "QuantAdaptiveAvgPool1d",
    "QuantAdaptiveAvgPool2d",
    "QuantAdaptiveAvgPool3d",
    "QuantAvgPool1d",
    "QuantAvgPool2d",
    "QuantAvgPool3d",
    "QuantMaxPool1d",
    "QuantMaxPool2d",
    "QuantMaxPool3d",
]


class QuantMaxPool1d(InputLayer, nn.MaxPool1d):
    """1-D max pool."""


class QuantMaxPool2d(InputLayer, nn.MaxPool2d):
    """2-D max pool."""


class QuantMaxPool3d(InputLayer, nn.MaxPool3d):
    """3-D max pool."""


class QuantAvgPool1d(InputLayer, nn.AvgPool1d):
    """1-D average pool."""


class QuantAvgPool2d(InputLayer, nn.AvgPool2d):
    """2-D average pool."""


class QuantAvgPool3d(InputLayer, nn.AvgPool3d):
    """3-D average pool."""


class QuantAdaptiveAvgPool1d(InputLayer, nn.AdaptiveAvgPool1d):
    """1-D adaptive average pool."""


class QuantAdaptiveAvgPool2d(InputLayer, nn.AdaptiveAvgPool2d):
    """2-D adaptive average pool."""


class QuantAdaptiveAvgPool3d(InputLayer, nn.AdaptiveAvgPool3d):
    """3-D adaptive average pool."""


MaxPool1d, MaxPool2d, MaxPool3d = QuantMaxPool1d, QuantMaxPool2d, QuantMaxPool3d
AvgPool1d, AvgPool2d, AvgPool3d = QuantAvgPool1d, QuantAvgPool2d, QuantAvgPool3d
AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d = (
    QuantAdaptiveAvgPool1d,
    QuantAdaptiveAvgPool2d,
    QuantAdaptiveAvgPool3d,
)
