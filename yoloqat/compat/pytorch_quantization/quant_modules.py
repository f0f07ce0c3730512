"""Layers of ``torch.nn`` replaced by quantized ones for the models built while the replacement lasts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from yoloqat.compat.errors import ArgumentTypeError, MissingAttributeError
from yoloqat.compat.patches import Patches
from yoloqat.compat.pytorch_quantization import nn as quant_nn
from yoloqat.compat.pytorch_quantization._state import HELPERS, TORCH_NN

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


class QuantModuleReplacementHelper:
    """Replaces layers in steps; :func:`initialize` and :func:`deactivate` do the same in one.

    Args:
        patches: Record of the replacements; None makes a new one.

    Attributes:
        orginal_func_map: Replaced attributes with their original classes; NVIDIA's spelling.
        default_quant_map: Default replacements.
        quant_map: Replacements of :meth:`apply_quant_modules`, in order.
    """

    def __init__(self, patches: Patches | None = None) -> None:
        self._patches = Patches() if patches is None else patches
        if patches is None:
            HELPERS.append(self._patches)
        self.orginal_func_map: list[_quant_entry] = []
        self.default_quant_map = _DEFAULT_QUANT_MAP
        self.quant_map: list[_quant_entry] = []

    def prepare_state(
        self,
        float_module_list: Collection[str] | None = None,
        custom_map: Iterable[tuple[Any, str, Any]] | None = None,
    ) -> None:
        """Choose what is to be replaced; arguments and errors as :func:`initialize`."""
        defaults = [entry for entry in self.default_quant_map if entry.mod_name not in (float_module_list or ())]
        for entry in (*defaults, *(_custom_entry(given) for given in custom_map or ())):
            before = getattr(entry.orig_mod, entry.mod_name)
            self.orginal_func_map.append(entry._replace(replace_mod=before))
            self.quant_map.append(entry)

    def apply_quant_modules(self) -> None:
        """Put the quantized layers in."""
        for entry in self.quant_map:
            self._patches.set(*entry)

    def restore_float_modules(self) -> None:
        """Put back what was there before, however often it was replaced."""
        self._patches.restore()


def _custom_entry(given: Any) -> _quant_entry:
    try:
        entry = _quant_entry(*given)
    except TypeError as error:
        raise ArgumentTypeError(
            f"a custom quantized module is {given!r}",
            expected="(module, name of the class there, class to put there)",
            hint="give all three",
        ) from error
    if not isinstance(entry.mod_name, str) or not hasattr(entry.orig_mod, entry.mod_name):
        raise MissingAttributeError(
            f"a custom quantized module names {entry.mod_name!r}",
            expected=f"an attribute of {getattr(entry.orig_mod, '__name__', entry.orig_mod)}",
            hint="correct the name",
        )
    return entry


def initialize(
    float_module_list: Collection[str] | None = None,
    custom_quant_modules: Iterable[tuple[Any, str, Any]] | None = None,
) -> None:
    """Put the quantized layers in the place of torch's.

    Args:
        float_module_list: Names of layers to leave alone, e.g. ``["Linear"]``.
        custom_quant_modules: Further replacements: (module, name of the class there, class to put there).

    Raises:
        ArgumentTypeError: A further replacement is not of that form.
        MissingAttributeError: A module has no such class.
    """
    helper = QuantModuleReplacementHelper(TORCH_NN)
    helper.prepare_state(float_module_list, custom_quant_modules)
    helper.apply_quant_modules()


def deactivate() -> None:
    """Put back everything that :func:`initialize` replaced, however often it was called."""
    TORCH_NN.restore()


@contextmanager
def enable_onnx_export() -> Iterator[None]:
    """Quantize by torch's own operators inside the block, which ``torch.onnx`` exports as QuantizeLinear and DequantizeLinear."""
    before = quant_nn.TensorQuantizer._enable_onnx_export
    quant_nn.TensorQuantizer._enable_onnx_export = True
    try:
        yield
    finally:
        quant_nn.TensorQuantizer._enable_onnx_export = before
