"""Parameters chosen by their names, for optimizers (NVIDIA's ``pytorch_quantization.optim.helper``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from yoloqat.compat.errors import ArgumentTypeError
from yoloqat.compat.pytorch_quantization._state import LOG

__all__ = ["freeze_parameters", "group_parameters", "match_parameters", "quant_weight_inplace"]


def _matching(model: nn.Module, patterns: Sequence[str]) -> Iterator[tuple[str, nn.Parameter]]:
    for name, parameter in model.named_parameters():
        if any(re.search(pattern, name) for pattern in patterns):
            yield name, parameter


def match_parameters(model: nn.Module, patterns: Sequence[str]) -> Iterator[nn.Parameter]:
    """Yield each parameter in whose name at least one of the regular expressions is found."""
    for _, parameter in _matching(model, patterns):
        yield parameter


def group_parameters(
    model: nn.Module,
    patterns_list: Sequence[list[str]],
    lrs: Sequence[float] | None = None,
    momentums: Sequence[float] | None = None,
    weight_decays: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """Return one parameter group of a torch optimizer for each list of patterns.

    Args:
        model: Model whose parameters are grouped.
        patterns_list: Lists of regular expressions; a parameter should match in one list only.
        lrs: Learning rate of each group.
        momentums: Momentum of each group.
        weight_decays: Weight decay of each group.

    Raises:
        ArgumentTypeError: A group's patterns are no list, or the lengths differ.
    """
    for patterns in patterns_list:
        if not isinstance(patterns, list):
            raise ArgumentTypeError(
                f"patterns of a group are {patterns!r}", expected="a list of texts", hint="write even one as a list"
            )
    options = {"lr": lrs, "momentum": momentums, "weight_decay": weight_decays}
    given = {key: values for key, values in options.items() if values is not None}
    for key, values in given.items():
        if len(values) != len(patterns_list):
            raise ArgumentTypeError(
                f"there are {len(values)} values of {key}",
                expected=f"{len(patterns_list)}",
                hint="give one for each group",
            )
    return [
        {"params": list(match_parameters(model, patterns)), **{key: values[place] for key, values in given.items()}}
        for place, patterns in enumerate(patterns_list)
    ]


def freeze_parameters(model: nn.Module, patterns: Sequence[str]) -> None:
    """Stop training each parameter in whose name at least one of the regular expressions is found."""
    for name, parameter in _matching(model, patterns):
        LOG.info("freeze %s", name)
        parameter.requires_grad_(False)


def quant_weight_inplace(model: nn.Module) -> None:
    """Replace the weight of every quantized layer by its fake-quantized values (relax and round)."""
    for module in model.modules():
        quantizer, weight = getattr(module, "_weight_quantizer", None), getattr(module, "weight", None)
        if quantizer is not None and isinstance(weight, torch.Tensor):
            with torch.no_grad():
                weight.copy_(quantizer(weight))
