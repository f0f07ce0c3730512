"""Numerics and graph of quantization: fake quant, calibrators, quantized layers, swapping. Knows no data set and no mAP."""

from yoloqat.quant.contexts import collecting, dynamic_amax, quantization_disabled
from yoloqat.quant.descriptor import QuantDescriptor
from yoloqat.quant.modules import QuantConv2d, QuantConvTranspose2d, QuantLinear
from yoloqat.quant.numbers import LayerNumbers, TensorNumbers, layer_numbers
from yoloqat.quant.patterns import match_layers
from yoloqat.quant.swap import quantized_layers, quantizers, select_layers, swap_layers, swappable_layers
from yoloqat.quant.tensor_quantizer import TensorQuantizer

__all__ = [
    "LayerNumbers",
    "QuantConv2d",
    "QuantConvTranspose2d",
    "QuantDescriptor",
    "QuantLinear",
    "TensorNumbers",
    "TensorQuantizer",
    "collecting",
    "dynamic_amax",
    "layer_numbers",
    "match_layers",
    "quantization_disabled",
    "quantized_layers",
    "quantizers",
    "select_layers",
    "swap_layers",
    "swappable_layers",
]
