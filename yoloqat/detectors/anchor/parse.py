"""Parse the YAML description in a checkpoint into layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from yoloqat.detectors.anchor.head import HEADS, Detect
from yoloqat.detectors.anchor.kinds import KINDS, settings_of
from yoloqat.errors import ModelError

CHANNEL_STEP = 8
"""Scaled channels are rounded up to a multiple of this."""

_WORDS: dict[str, Any] = {"None": None, "True": True, "False": False}


@dataclass(frozen=True)
class Layer:
    """One entry of the description.

    Attributes:
        index: Its place.
        sources: Places of the layers that it reads; -1 is the image.
        listed: It takes a list of inputs, not a single one.
        repeats: As scaled by the depth multiple.
        kind: Name of the layer's class, as :data:`KINDS` or :data:`HEADS` have it.
        arguments: Plain values.
    """

    index: int
    sources: tuple[int, ...]
    listed: bool
    repeats: int
    kind: str
    arguments: tuple[Any, ...]


def _refusal(where: str, reason: str) -> ModelError:
    return ModelError(
        f"{where} of the model's description {reason}",
        expected="a description of YOLOv5 or YOLOv7, as their own code writes it into checkpoints",
        hint="pass a checkpoint of an unchanged YOLOv5 or YOLOv7 architecture",
    )


def read_layers(yaml: dict[str, Any]) -> list[Layer]:
    """Return the layers that a description lists, the head last.

    Args:
        yaml: As :func:`yoloqat.detectors.architecture.checked` returns it.

    Raises:
        ModelError: It has no multiple of depth or width, or no anchors, as all of both families have.
    """
    for key in ("depth_multiple", "width_multiple", "anchors"):
        if key not in yaml:
            raise _refusal("a part", f"is missing: '{key}'")
    result = []
    for index, (source, repeats, kind, arguments) in enumerate([*yaml["backbone"], *yaml["head"]]):
        listed = not isinstance(source, int)
        sources = tuple(place if place >= 0 else index + place for place in (source if listed else [source]))
        repeats = max(round(repeats * yaml["depth_multiple"]), 1) if repeats > 1 else 1
        values = tuple(_WORDS.get(value, value) if isinstance(value, str) else value for value in arguments)
        result.append(Layer(index, sources, listed, repeats, kind, values))
    return result


def anchors_per_level(yaml: dict[str, Any]) -> int:
    """Return the number of anchors per level: from the list of their sizes or given directly."""
    anchors = yaml["anchors"]
    return len(anchors[0]) // 2 if isinstance(anchors, list) else int(anchors)


def _scaled(channels: int, width: float) -> int:
    return math.ceil(channels * width / CHANNEL_STEP) * CHANNEL_STEP


@dataclass(frozen=True)
class _Made:
    """A layer's module, its output channels and its stride in pixels of the image."""

    module: nn.Module
    channels: int
    stride: float


def _make(layer: Layer, inputs: Sequence[_Made], *, width: float, outputs: int, act: str) -> _Made:
    kind = KINDS[layer.kind]
    channels = [made.channels for made in inputs]
    arguments = list(layer.arguments)
    leading: tuple[int, ...] = ()
    if kind.convolutional:
        wanted = arguments.pop(0)
        if wanted < 1:
            raise ValueError(f"{wanted} output channels")
        leading = (channels[0], wanted if wanted == outputs else _scaled(wanted, width))
    settings = settings_of(kind, arguments, act=act)
    repeats = layer.repeats
    if kind.repeats is not None:
        settings[kind.repeats], repeats = repeats, 1
    modules = [kind.make(*leading, **settings) for _ in range(repeats)]
    return _Made(
        modules[0] if repeats == 1 else nn.Sequential(*modules),
        leading[1] if leading else kind.channels(channels),
        inputs[0].stride * kind.factor(settings) ** repeats,
    )


def _make_head(layer: Layer, inputs: Sequence[_Made], *, classes: int, anchors: int) -> Detect:
    # the second half of an IAuxDetect's inputs is for training
    levels = len(inputs) // 2 if layer.kind == "IAuxDetect" else len(inputs)
    strides = [made.stride for made in inputs[:levels]]
    return HEADS[layer.kind]([made.channels for made in inputs], classes=classes, anchors=anchors, strides=strides)


def make_modules(
    layers: Sequence[Layer], yaml: dict[str, Any], *, channels: int, classes: int, act: str
) -> list[nn.Module]:
    """Make the modules of all layers.

    Args:
        layers: From :func:`read_layers`.
        yaml: The description; gives the width multiple and the anchors.
        channels: Of the image.
        classes: Number of classes.
        act: The activation's text, where a layer names none.

    Raises:
        ModelError: A layer cannot be made as described.
    """
    made: list[_Made] = []
    image = _Made(nn.Identity(), channels, 1)
    modules: list[nn.Module] = []
    for layer in layers:
        inputs = [image if place < 0 else made[place] for place in layer.sources]
        try:
            anchors = anchors_per_level(yaml)
            if layer.kind in HEADS:
                modules.append(_make_head(layer, inputs, classes=classes, anchors=anchors))
                continue
            result = _make(layer, inputs, width=float(yaml["width_multiple"]), outputs=anchors * (classes + 5), act=act)
        except (TypeError, ValueError, KeyError, IndexError, ZeroDivisionError, RuntimeError, OverflowError) as error:
            where = f"layer {layer.index} ({layer.kind} {list(layer.arguments)!r:.60})"
            raise _refusal(where, f"cannot be made ({error})") from error
        made.append(result)
        modules.append(result.module)
    return modules
