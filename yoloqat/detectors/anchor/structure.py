"""Check that a model built from a description equals the one that a checkpoint recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from yoloqat.detectors.anchor.blocks import Bottleneck
from yoloqat.detectors.anchor.layers import Concat
from yoloqat.detectors.anchor.model import AnchorModel
from yoloqat.detectors.anchor.official import Node

_FACTS: tuple[tuple[type[nn.Module], tuple[str, ...]], ...] = (
    (nn.Conv2d, ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")),
    (nn.BatchNorm2d, ("eps",)),
    (nn.MaxPool2d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
    (nn.Upsample, ("scale_factor", "mode")),
    (nn.LeakyReLU, ("negative_slope",)),
    (Bottleneck, ("add",)),
    (Concat, ("d",)),
)
"""The attributes that decide, beside the tensors, what a module computes."""

HEAD_BUFFERS = ("anchors", "anchor_grid")
"""Of the original head; ours holds anchors in pixels, set by :func:`yoloqat.detectors.anchor.weights.anchor_sizes`."""


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _children(module: nn.Module) -> dict[str, nn.Module]:
    return dict(module.named_children())


def _module_difference(name: str, recorded: Node, built: nn.Module) -> str | None:
    kind = type(built).__name__
    if recorded.kind != kind:
        return f"'{name}' is a {recorded.kind}, its description gives a {kind}"
    for base, attributes in _FACTS:
        if isinstance(built, base):
            for attribute in attributes:
                found, expected = recorded.attributes.get(attribute), getattr(built, attribute)
                if _listed(found) != _listed(expected):
                    return f"'{name}' has {attribute} {found}, its description gives {expected}"
    odd = sorted(set(recorded.children) ^ set(_children(built)))
    if odd:
        return f"'{name}.{odd[0]}' is {'missing from' if odd[0] in recorded.children else 'only in'} its description"
    return None


def _tensor_difference(name: str, recorded: Node, built: nn.Module, *, skip: Sequence[str]) -> str | None:
    own = dict(built.named_parameters(recurse=False)) | dict(built.named_buffers(recurse=False))
    found: dict[str, torch.Tensor] = {key: value for key, value in recorded.tensors.items() if key not in skip}
    own = {key: value for key, value in own.items() if key not in skip}
    odd = sorted(set(found) ^ set(own))
    if odd:
        return f"'{name}.{odd[0]}' is {'missing from' if odd[0] in found else 'only in'} its description"
    for key, value in found.items():
        if value.shape != own[key].shape:
            return f"'{name}.{key}' has shape {tuple(value.shape)}, its description gives {tuple(own[key].shape)}"
    return None


def difference(recorded: Node, built: AnchorModel) -> str | None:
    """Return why a checkpoint's layers are not those of a built model, or None when they are.

    Compared are classes, the attributes that decide what a class computes, connections, strides, and names and shapes of
    tensors.

    Args:
        recorded: The container of the checkpoint's layers.
        built: From the checkpoint's own description, not folded.
    """
    layers = _children(built.model)
    if list(recorded.children) != list(layers):
        return f"it has {len(recorded.children)} layers, its description gives {len(layers)}"
    last = len(layers) - 1
    for index, (place, node) in enumerate(recorded.children.items()):
        found = node.attributes.get("f")
        listed = [found] if isinstance(found, int) else list(found or [])
        absolute = tuple(value if value >= 0 else index + value for value in listed)
        sources = built.sources[index]
        if (absolute[: len(sources)] if index == last else absolute) != sources:
            return f"layer {index} reads layers {absolute}, its description gives {sources}"
        modules = dict(layers[place].named_modules())
        for name, child in node.walk():
            full = f"model.{place}.{name}" if name else f"model.{place}"
            skip = HEAD_BUFFERS if index == last and not name else ()
            reason = _module_difference(full, child, modules[name]) or _tensor_difference(
                full, child, modules[name], skip=skip
            )
            if reason:
                return reason
    return None
