"""Activation functions as texts, the way model YAMLs write them: ``nn.SiLU()``, ``nn.LeakyReLU(0.1)``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from yoloqat.errors import ModelError

_KINDS: dict[str, type[nn.Module]] = {
    "SiLU": nn.SiLU,
    "LeakyReLU": nn.LeakyReLU,
    "ReLU": nn.ReLU,
    "ReLU6": nn.ReLU6,
    "Hardswish": nn.Hardswish,
    "Mish": nn.Mish,
    "Identity": nn.Identity,
}
_SLOPE = "LeakyReLU"
_TEXT = re.compile(
    r"(?:torch\.)?nn\.(?P<kind>\w+)\(\s*(?:(?:negative_slope\s*=\s*)?(?P<slope>\d*\.?\d+))?[\s,]*(?:inplace\s*=\s*\w+)?\s*\)"
)


def activation_text(kind: str, attributes: Mapping[str, Any]) -> str:
    """Return the text for an activation module.

    Args:
        kind: Name of its class.
        attributes: Its attributes, of which only ``negative_slope`` matters.
    """
    return f"nn.{kind}({attributes.get('negative_slope', 0.01)})" if kind == _SLOPE else f"nn.{kind}()"


def is_activation(value: Any) -> bool:
    """Return whether a value of a model YAML is an activation's text."""
    return isinstance(value, str) and _TEXT.fullmatch(value) is not None


def activation(text: str) -> nn.Module:
    """Make the module that a text stands for.

    Raises:
        ModelError: It stands for none of those that are known.
    """
    match = _TEXT.fullmatch(text)
    kind = _KINDS.get(match["kind"]) if match else None
    if match is None or kind is None or (match["slope"] and match["kind"] != _SLOPE):
        raise ModelError(
            f"the activation '{text}' is unknown",
            expected=f"one of {', '.join(f'nn.{name}()' for name in _KINDS)}",
            hint="pass a model that uses one of these",
        )
    return kind(float(match["slope"])) if match["slope"] else kind()
