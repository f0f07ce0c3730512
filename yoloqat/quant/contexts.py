"""Switching the quantizers of a model for a while: each context restores what was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from yoloqat.quant.swap import quantized_layers, quantizers


@contextmanager
def _restored_switches(module: nn.Module) -> Iterator[None]:
    kept = [
        (quantizer, quantizer._disabled, quantizer._if_quant, quantizer._if_calib)
        for _, quantizer in quantizers(module)
    ]
    try:
        yield
    finally:
        for quantizer, disabled, if_quant, if_calib in kept:
            quantizer._disabled, quantizer._if_quant, quantizer._if_calib = disabled, if_quant, if_calib


@contextmanager
def quantization_disabled(module: nn.Module) -> Iterator[None]:
    """Run ``module`` as the float model it was made from."""
    with _restored_switches(module):
        for _, quantizer in quantizers(module):
            quantizer.disable()
        yield


@contextmanager
def collecting(module: nn.Module) -> Iterator[None]:
    """Run ``module`` in float while the input quantizers collect statistics; disabled quantizers stay out of it."""
    with _restored_switches(module):
        for _, layer in quantized_layers(module):
            layer._input_quantizer.disable_quant()
            layer._input_quantizer.enable_calib()
            layer._weight_quantizer.disable_quant()
        yield


@contextmanager
def dynamic_amax(module: nn.Module) -> Iterator[None]:
    """Run ``module`` with every activation range taken from the tensor that passes; calibrated ranges come back after."""
    kept = [
        (layer._input_quantizer, layer._input_quantizer.amax, layer._input_quantizer.low)
        for _, layer in quantized_layers(module)
    ]
    try:
        for quantizer, _, _ in kept:
            quantizer.reset_amax()
        yield
    finally:
        for quantizer, amax, low in kept:
            quantizer._amax, quantizer._low = amax, low
