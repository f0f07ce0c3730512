"""Clipping as a layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from yoloqat.compat.errors import ArgumentValueError
from yoloqat.compat.pytorch_quantization.nn.functional import clip

__all__ = ["Clip"]


class Clip(nn.Module):
    """Clips its input to a range.

    Args:
        clip_value_min: Lower bound, a number or a tensor that broadcasts to the input.
        clip_value_max: Upper bound.
        learn_min: Make the lower bound a parameter.
        learn_max: Make the upper bound a parameter.

    Raises:
        ArgumentValueError: A bound to be learned has more than one element.
    """

    clip_value_min: Any
    clip_value_max: Any

    def __init__(
        self, clip_value_min: Any, clip_value_max: Any, learn_min: bool = False, learn_max: bool = False
    ) -> None:
        super().__init__()
        self.clip_value_min = _learned(clip_value_min) if learn_min else clip_value_min
        self.clip_value_max = _learned(clip_value_max) if learn_max else clip_value_max

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``inputs`` clipped."""
        return clip(inputs, self.clip_value_min, self.clip_value_max)


def _learned(bound: Any) -> nn.Parameter:
    value = torch.as_tensor(bound, dtype=torch.float32)
    if value.numel() != 1:
        raise ArgumentValueError(
            f"a bound to be learned has shape {tuple(value.shape)}", expected="one element", hint="learn a scalar"
        )
    return nn.Parameter(value.detach().clone().reshape(()))
