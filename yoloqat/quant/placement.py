"""Quantize or feed the float layers beside quantized ones, and plan which quantizers share a scale."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from yoloqat.config import QuantConfig
from yoloqat.config.target import target_named
from yoloqat.quant.dequantized import swap_dequantized
from yoloqat.quant.graph.beside import beside_quantized, dequantized_readers
from yoloqat.quant.graph.plan import PlacementPlan
from yoloqat.quant.graph.planner import plan_module
from yoloqat.quant.graph.trace import trace
from yoloqat.quant.swap import DEPTHWISE_REASON, NAMED_REASON, swap_layers


def place_quantizers(
    module: nn.Module, example: Tensor, config: QuantConfig, *, floats: Mapping[str, str]
) -> PlacementPlan:
    """Let a convolution write integers where readers of its output are float, and plan the shared scales.

    With ``config.depthwise`` None, depthwise convolutions beside a quantized reader are quantized. Where the target wants it,
    other float convolutions beside one read the dequantized values, except those that the user named.

    Args:
        module: The model with its layers and blocks swapped; changed in place.
        example: Its input, on its device.
        config: Gives the schemes and recipes.
        floats: Layers that stay float by choice, with the reason.

    Raises:
        ModelError: The module cannot be traced.
        PatternError: A pattern of ``config.unmerge`` matches no location.
    """
    traced = trace(module, example)
    depthwise = [name for name, reason in floats.items() if reason == DEPTHWISE_REASON]
    beside = beside_quantized(traced, depthwise) if config.depthwise is None else []
    free = [name for name, reason in floats.items() if reason != NAMED_REASON]
    feeds = target_named(config.target).feeds
    fed = dequantized_readers(module, traced, config, free, beside=beside) if feeds else []
    if beside or fed:
        swap_layers(module, beside, config)
        swap_dequantized(module, fed, config)
        traced = trace(module, example)
    return plan_module(module, traced, config, floats={name: floats[name] for name in floats if name not in beside})
