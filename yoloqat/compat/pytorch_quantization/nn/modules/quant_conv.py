"""Quantized convolutions."""

from __future__ import annotations

from typing import ClassVar

from yoloqat.compat.pytorch_quantization import tensor_quant
from yoloqat.compat.pytorch_quantization.nn.modules._layers import WeightLayer
from yoloqat.compat.pytorch_quantization.tensor_quant import QuantDescriptor
from yoloqat.quant import modules as core
from yoloqat.quant import modules_nd as core_nd

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "QuantConv1d",
    "QuantConv2d",
    "QuantConv3d",
    "QuantConvTranspose1d",
    "QuantConvTranspose2d",
    "QuantConvTranspose3d",
]


class QuantConv1d(WeightLayer, core_nd.QuantConv1d):  # type: ignore[misc]
    """1-D convolution."""

    default_quant_desc_weight: ClassVar[QuantDescriptor] = tensor_quant.QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL


class QuantConv2d(WeightLayer, core.QuantConv2d):  # type: ignore[misc]
    """2-D convolution."""

    default_quant_desc_weight: ClassVar[QuantDescriptor] = tensor_quant.QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL


class QuantConv3d(WeightLayer, core_nd.QuantConv3d):  # type: ignore[misc]
    """3-D convolution."""

    default_quant_desc_weight: ClassVar[QuantDescriptor] = tensor_quant.QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL


class QuantConvTranspose1d(WeightLayer, core_nd.QuantConvTranspose1d):  # type: ignore[misc]
    """1-D transposed convolution."""

    default_quant_desc_weight: ClassVar[QuantDescriptor] = (
        tensor_quant.QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL
    )


class QuantConvTranspose2d(WeightLayer, core.QuantConvTranspose2d):  # type: ignore[misc]
    """2-D transposed convolution."""

    default_quant_desc_weight: ClassVar[QuantDescriptor] = (
        tensor_quant.QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL
    )


class QuantConvTranspose3d(WeightLayer, core_nd.QuantConvTranspose3d):  # type: ignore[misc]
    """3-D transposed convolution."""

    default_quant_desc_weight: ClassVar[QuantDescriptor] = (
        tensor_quant.QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL
    )


Conv1d, Conv2d, Conv3d = QuantConv1d, QuantConv2d, QuantConv3d
ConvTranspose1d, ConvTranspose2d, ConvTranspose3d = QuantConvTranspose1d, QuantConvTranspose2d, QuantConvTranspose3d
