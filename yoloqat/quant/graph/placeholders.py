"""Quantizer placeholders: operators that stand in for quantizers while a module is traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from yoloqat.quant.tensor_quantizer import PLACEHOLDER_OP, TensorQuantizer

_LIBRARY = torch.library.Library(PLACEHOLDER_OP.partition("::")[0], "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define(f"{PLACEHOLDER_OP.partition('::')[2]}(Tensor x, str name) -> Tensor")  # type: ignore[no-untyped-call]


def _identity(x: Tensor, name: str) -> Tensor:
    """Return a copy: an operator may not return its own input."""
    del name
    return x.clone()


def _shape(x: Tensor, name: str) -> Tensor:
    del name
    return torch.empty_like(x)


_LIBRARY.impl(PLACEHOLDER_OP.partition("::")[2], _identity, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
torch.library.register_fake(PLACEHOLDER_OP, _shape, lib=_LIBRARY)


@contextmanager
def quantizer_placeholders(module: nn.Module) -> Iterator[None]:
    """Make every quantizer that is switched on emit the operator ``yoloqat::quantizer(x, name)`` instead of quantizing.

    The name is the one under which the quantizer is registered in ``module``; a quantizer that several layers share emits
    the same name at each of them.
    """
    kept = [
        (name, child, child._placeholder)
        for name, child in module.named_modules()
        if isinstance(child, TensorQuantizer)
    ]
    try:
        for name, quantizer, _ in kept:
            quantizer._placeholder = name
        yield
    finally:
        for _, quantizer, before in kept:
            quantizer._placeholder = before
