"""Layers of ``torch.nn`` replaced by quantized ones for the models built while the replacement lasts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from yoloqat.compat.pytorch_quantization import nn as quant_nn
from yoloqat.compat.pytorch_quantization._state import TORCH_NN

__all__ = ["deactivate", "enable_onnx_export", "initialize"]


class _quant_entry(NamedTuple):  # noqa: N801 - the name of NVIDIA's entries
    """A class to replace: the module that holds it, its name there, and the class to put in its place."""

    orig_mod: Any
    mod_name: str
    replace_mod: Any


_REPLACED = (
    *(f"{kind}{dimensions}d" for kind in ("Conv", "ConvTranspose") for dimensions in (1, 2, 3)),
    "Linear",
    *(f"{kind}{dimensions}d" for kind in ("AvgPool", "AdaptiveAvgPool") for dimensions in (1, 2, 3)),
)

_DEFAULT_QUANT_MAP = [_quant_entry(torch.nn, name, getattr(quant_nn, f"Quant{name}")) for name in _REPLACED]


def initialize(
    float_module_list: Collection[str] | None = None,
    custom_quant_modules: Iterable[tuple[Any, str, Any]] | None = None,
) -> None:
    """Put the quantized layers in the place of torch's.

    Args:
        float_module_list: Names of layers to leave alone, e.g. ``["Linear"]``.
        custom_quant_modules: Further replacements: (module, name of the class there, class to put there).
    """
    for entry in _DEFAULT_QUANT_MAP:
        if entry.mod_name not in (float_module_list or ()):
            TORCH_NN.set(*entry)
    for module, name, replacement in custom_quant_modules or ():
        TORCH_NN.set(module, name, replacement)


def deactivate() -> None:
    """Put back everything that :func:`initialize` replaced, however often it was called."""
    TORCH_NN.restore()


@contextmanager
def enable_onnx_export() -> Iterator[None]:
    """Quantize by torch's own operators for a while, which ``torch.onnx`` exports as QuantizeLinear and DequantizeLinear."""
    before = quant_nn.TensorQuantizer._enable_onnx_export
    quant_nn.TensorQuantizer._enable_onnx_export = True
    try:
        yield
    finally:
        quant_nn.TensorQuantizer._enable_onnx_export = before
