"""Numerics and graph of quantization: fake quant, calibrators, quantized layers, swapping. Knows no data set and no mAP."""

from yoloqat.quant.blocks import QuantBlock, add_roles, block_sites, swap_blocks
from yoloqat.quant.contexts import collecting, dynamic_amax, quantization_disabled, weights_float
from yoloqat.quant.module import calibrate_module, fold_batch_norms, quantize_module
from yoloqat.quant.modules import QuantConv2d, QuantConvTranspose2d, QuantLinear
from yoloqat.quant.numbers import Numbers, TensorNumbers, module_numbers
from yoloqat.quant.patterns import match_layers
from yoloqat.quant.ranges import check_ranges
from yoloqat.quant.sharing import drop_sites, share_quantizers, shared_sites, site_holder, unshared
from yoloqat.quant.swap import (
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
    "Numbers",
    "QuantBlock",
    "QuantConv2d",
    "QuantConvTranspose2d",
    "QuantLinear",
    "TensorNumbers",
    "TensorQuantizer",
    "activation_quantizers",
    "add_roles",
    "block_sites",
    "calibrate_module",
    "check_ranges",
    "collecting",
    "drop_sites",
    "dynamic_amax",
    "float_reasons",
    "fold_batch_norms",
    "match_layers",
    "module_numbers",
    "quantization_disabled",
    "quantize_module",
    "quantized_layers",
    "quantizers",
    "select_layers",
    "share_quantizers",
    "shared_sites",
    "site_holder",
    "swap_blocks",
    "swap_layers",
    "swappable_layers",
    "unshared",
    "weights_float",
]
