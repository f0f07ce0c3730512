"""The quantized linear layer."""

from __future__ import annotations

from typing import ClassVar

from yoloqat.compat.pytorch_quantization import tensor_quant
from yoloqat.compat.pytorch_quantization.nn.modules._layers import WeightLayer
from yoloqat.compat.pytorch_quantization.tensor_quant import QuantDescriptor
from yoloqat.quant import modules as core

__all__ = ["Linear", "QuantLinear"]


class QuantLinear(WeightLayer, core.QuantLinear):  # type: ignore[misc]
    """Linear layer."""

    default_quant_desc_weight: ClassVar[QuantDescriptor] = tensor_quant.QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW


Linear = QuantLinear
