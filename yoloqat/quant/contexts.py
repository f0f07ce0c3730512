"""Context managers that switch the quantizers of a model and restore them afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from yoloqat.quant.swap import activation_quantizers, quantized_layers, quantizers


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
def weights_float(module: nn.Module) -> Iterator[None]:
    """Run ``module`` with its float weights; the quantizers of activations stay as they are.

    While the module emits placeholders, only quantizers that quantize emit one.
    """
    with _restored_switches(module):
        for _, layer in quantized_layers(module):
            layer._weight_quantizer.disable()
        for _, quantizer in activation_quantizers(module):
            quantizer._disabled |= not quantizer._if_quant
        yield


@contextmanager
def collecting(module: nn.Module) -> Iterator[None]:
    """Run ``module`` in float while the quantizers of activations collect statistics; disabled quantizers collect nothing.

    A quantizer that several locations share counts the values of each tensor once in a forward, however many of them read it.
    """
    found = [quantizer for _, quantizer in activation_quantizers(module)]

    def forget(*_: object) -> None:
        for quantizer in found:
            quantizer._seen = []

    handle = module.register_forward_pre_hook(forget)
    try:
        with _restored_switches(module):
            for _, quantizer in quantizers(module):
                quantizer.disable_quant()
            for quantizer in found:
                quantizer.enable_calib()
            yield
    finally:
        handle.remove()
        for quantizer in found:
            quantizer._seen = None


@contextmanager
def dynamic_amax(module: nn.Module) -> Iterator[None]:
    """Run ``module`` with dynamic activation ranges; calibrated ranges are restored afterwards."""
    kept = [(quantizer, quantizer.amax, quantizer.low) for _, quantizer in activation_quantizers(module)]
    try:
        for quantizer, _, _ in kept:
            quantizer.reset_amax()
        yield
    finally:
        for quantizer, amax, low in kept:
            quantizer._amax, quantizer._low = amax, low


def forget_inference(module: nn.Module) -> None:
    """Replace the tensors that modules remember from a run in inference mode, such as anchors, by copies that take a gradient."""
    for child in module.modules():
        for name, value in list(vars(child).items()):
            if isinstance(value, Tensor) and value.is_inference():
                setattr(child, name, value.clone())
