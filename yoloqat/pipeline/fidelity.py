"""Fidelity of a model to the float model, on the same images, whatever runs the two."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from yoloqat.config import EvalConfig
from yoloqat.datasets import ImageRecord
from yoloqat.errors import ModelError
from yoloqat.evaluation.fidelity import NOISE
from yoloqat.evaluation.reference import Fidelity, Reference
from yoloqat.pipeline.run import Run
from yoloqat.predictor import ModelInfo, Predictor

NOT_MEASURED: dict[str, Any] = {NOISE: None, f"{NOISE}_ci95": None}
"""The result keys of the noise where there are no images to measure it on."""


def noise_results(fidelity: Fidelity) -> dict[str, Any]:
    """Return the noise d of a model with its 95 % interval, as ``calibrate``, ``build`` and ``finetune`` report it."""
    return fidelity.d.to_dict(NOISE)


def check_alike(floating: ModelInfo, other: ModelInfo, names: tuple[str, str]) -> None:
    """Check that the outputs of two models stand for the same things.

    Args:
        floating: Of the float model.
        other: Of the model that is compared with it.
        names: What the two are called.

    Raises:
        ModelError: Their tasks, classes or channels differ, or only one of them does its own NMS.
    """
    for what, (first, second) in {
        "task": (floating.task, other.task),
        "classes": (_classes(floating, other), _classes(other, floating)),
        "channels of the images": (str(floating.channels), str(other.channels)),
        "NMS": (_nms(floating), _nms(other)),
    }.items():
        if first != second:
            raise ModelError(
                f"the {what} of '{names[0]}' and '{names[1]}' differ: {first} and {second}",
                expected="a model and the float model that it was made from",
                hint="name the float model of this one",
            )


def _classes(info: ModelInfo, other: ModelInfo) -> str:
    """Return what tells a model's class list from another one: its length, and the first class that differs."""
    for index, name in sorted(info.names.items()):
        if other.names.get(index) != name:
            return f"{info.classes} with {index} '{name:.40}'"
    return f"{info.classes}"


def _nms(info: ModelInfo) -> str:
    return "inside the model" if info.end2end else "left to others"


def fidelity_to(
    floating: Predictor,
    other: Predictor,
    images: Sequence[ImageRecord],
    config: EvalConfig,
    *,
    run: Run,
    names: tuple[str, str] = ("float", "model"),
    detections: bool = True,
    as_float: AbstractContextManager[object] | None = None,
) -> Fidelity:
    """Run two models on the same images and measure how far the second is from the first.

    Args:
        floating: The float model.
        other: The model, in whatever runtime.
        images: What both run on; labels are not needed.
        config: Image size, batch and NMS settings.
        run: Who watches.
        names: What the two are called.
        detections: Whether fidelity mAP is measured too.
        as_float: Makes ``floating`` the float model while it runs, e.g. by switching the quantizers off.

    Raises:
        ConfigError: The image size does not fit a model.
        DataError: There is no image, or one does not decode.
        ModelError: The two models' classes, tasks or outputs differ.
    """
    check_alike(floating.info, other.info, names)
    with as_float or nullcontext():
        reference = Reference(floating, images, config, detections=detections, progress=run.labelled(names[0]))
    return reference.compare(other, progress=run.labelled(names[1]))
