"""Numerics and graph of quantization: fake quant, calibrators, quantized layers, swapping. Knows no data set and no mAP."""

from yoloqat.quant.blocks import QuantBlock, block_locations, residual_roles, swap_blocks
from yoloqat.quant.contexts import collecting, dynamic_amax, forget_inference, quantization_disabled, weights_float
from yoloqat.quant.dequantized import dequantized_layers, swap_dequantized
from yoloqat.quant.digest import state_digest
from yoloqat.quant.module import calibrate_module, fold_batch_norms, quantize_module
from yoloqat.quant.modules import QuantConv2d, QuantConvTranspose2d, QuantLinear
from yoloqat.quant.patterns import match_layers
from yoloqat.quant.placement import place_quantizers
from yoloqat.quant.qparams import QParams, TensorQParams, module_qparams
from yoloqat.quant.ranges import check_ranges
from yoloqat.quant.sharing import locate_quantizer, remove_quantizers, share_quantizers, shared_locations, unshared
from yoloqat.quant.swap import (
    DEPTHWISE_REASON,
    activation_quantizers,
    float_reasons,
    quantized_layers,
    quantizers,
    select_layers,
    swap_layers,
    swappable_layers,
)
from yoloqat.quant.tensor_quantizer import TensorQuantizer

__all__ = [
    "DEPTHWISE_REASON",
    "QParams",
    "QuantBlock",
    "QuantConv2d",
    "QuantConvTranspose2d",
    "QuantLinear",
    "TensorQParams",
    "TensorQuantizer",
    "activation_quantizers",
    "block_locations",
    "calibrate_module",
    "check_ranges",
    "collecting",
    "dequantized_layers",
    "dynamic_amax",
    "float_reasons",
    "fold_batch_norms",
    "forget_inference",
    "locate_quantizer",
    "match_layers",
    "module_qparams",
    "place_quantizers",
    "quantization_disabled",
    "quantize_module",
    "quantized_layers",
    "quantizers",
    "remove_quantizers",
    "residual_roles",
    "select_layers",
    "share_quantizers",
    "shared_locations",
    "state_digest",
    "swap_blocks",
    "swap_dequantized",
    "swap_layers",
    "swappable_layers",
    "unshared",
    "weights_float",
]
