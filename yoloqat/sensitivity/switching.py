"""Switching single edges: what a site under test becomes, and the same for the module itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import nn

from yoloqat.quant import TensorQuantizer
from yoloqat.sensitivity.edges import Edge


@dataclass(frozen=True)
class Switch:
    """What becomes of an edge.

    Attributes:
        bits: Width of the codes, with the range as it is; None switches the edge off.
    """

    bits: int | None = None


OFF = Switch()


def switched_quantizer(quantizer: TensorQuantizer, switch: Switch) -> TensorQuantizer:
    """Return a quantizer with the same range that acts as ``switch`` says; the given one stays as it is."""
    other = copy.copy(quantizer)  # shares the range, which nobody changes
    if switch.bits is None:
        other._disabled = True
    else:
        other.scheme = replace(quantizer.scheme, bits=switch.bits)
    return other


@contextmanager
def switched(module: nn.Module, edges: Mapping[str, Edge], switches: Mapping[str, Switch]) -> Iterator[None]:
    """Run ``module`` with some edges switched; other users of the same quantizers are not touched.

    Args:
        module: The model.
        edges: Its edges by name.
        switches: What becomes of which edge, by its name.
    """
    kept: list[tuple[nn.Module, str, TensorQuantizer, bool]] = []
    try:
        for name, switch in switches.items():
            edge = edges[name]
            holder = module.get_submodule(edge.holder)
            other = switched_quantizer(edge.quantizer, switch)
            for attribute in edge.attributes:
                registered = attribute in holder._modules
                kept.append((holder, attribute, edge.quantizer, registered))
                _hold(holder, attribute, other, registered)
        yield
    finally:
        for holder, attribute, quantizer, registered in reversed(kept):
            _hold(holder, attribute, quantizer, registered)


def _hold(holder: nn.Module, attribute: str, quantizer: TensorQuantizer, registered: bool) -> None:
    if registered:
        holder._modules[attribute] = quantizer
    else:
        object.__setattr__(holder, attribute, quantizer)  # a plain reference, which nn.Module's would register
