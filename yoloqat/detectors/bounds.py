"""Limits of a model's size, checked on meta tensors before any memory is allocated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from yoloqat.detectors.architecture import refuse

MAX_WEIGHTS, MAX_ELEMENTS = 2**29, 2**28
"""Bounds of a model: its weights, and the elements of one tensor within it on an image of :data:`SIDE` pixels."""

SIDE = 256
"""Side in pixels of the image that Ultralytics runs a new model on to find its strides."""


def check_weights(module: nn.Module) -> None:
    """Check the number of weights of a module, which may be without memory.

    Raises:
        ModelError: There are more than :data:`MAX_WEIGHTS`.
    """
    weights = sum(parameter.numel() for parameter in module.parameters())
    if weights > MAX_WEIGHTS:
        refuse(f"there are layers of {weights} weights", expected=f"at most {MAX_WEIGHTS}")


def _watch(_module: nn.Module, _inputs: Any, output: Any) -> None:
    for tensor in output if isinstance(output, (list, tuple)) else [output]:
        if isinstance(tensor, torch.Tensor) and tensor.numel() > MAX_ELEMENTS:
            size = "x".join(map(str, tensor.shape))
            refuse(f"a layer returns {size} for an image of {SIDE} pixels", expected=f"at most {MAX_ELEMENTS} numbers")


@contextmanager
def _watched(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Check what every module of ``layers`` returns; Ultralytics' layers share one activation among all models."""
    with ExitStack() as stack:
        for module in dict.fromkeys(module for layer in layers for module in layer.modules()):
            stack.callback(module.register_forward_hook(_watch).remove)
        yield


def _remove_norms(layers: nn.Module) -> None:
    """Put identities in the places of batch-norms: they change no size, and on meta tensors they take most of the time."""
    for module in list(layers.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())


def check_size(layers: nn.Module, channels: int) -> None:
    """Check the sizes of the weights and of the outputs of the layers before the head.

    Args:
        layers: Ultralytics' sequence of layers, on the device ``meta``, which loses its batch-norms; the head is the last.
        channels: Of the image.

    Raises:
        ModelError: They are.
    """
    check_weights(layers)
    _remove_norms(layers)
    *body, _ = layers.children()
    value: Any = torch.zeros(1, channels, SIDE, SIDE, device="meta")
    outputs: list[Any] = []
    with torch.inference_mode(), _watched(body):
        for layer in body:
            source: Any = layer.f
            if isinstance(source, int):
                value = layer(value if source == -1 else outputs[source])
            else:
                value = layer([value if place == -1 else outputs[place] for place in source])
            outputs.append(value)
