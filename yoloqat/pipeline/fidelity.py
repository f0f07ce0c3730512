"""Fidelity of a model to the float model, on the same images, whatever runs the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yoloqat.config import EvalConfig
from yoloqat.datasets import ImageRecord
from yoloqat.errors import ModelError
from yoloqat.evaluation.fidelity import BOX, NOISE, mean
from yoloqat.evaluation.reference import Fidelity, Reference
from yoloqat.evaluation.scoring import check_fit
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.predictor import ModelInfo, Predictor
from yoloqat.quant import quantization_disabled


def noise_results(fidelity: Fidelity | None, name: str = NOISE) -> dict[str, Any]:
    """Return the noise d of a model with its 95 % interval, as the stages report it; None where it was not measured."""
    return {name: None, f"{name}_ci95": None} if fidelity is None else fidelity.d.to_dict(name)


def box_results(fidelity: Fidelity | None, name: str = BOX) -> dict[str, Any]:
    """Return how far the boxes are from those of the other model, with a 95 % interval; None where that was not measured.

    Scores alone do not tell of an engine whose boxes are wrong.
    """
    return {name: None, f"{name}_ci95": None} if fidelity is None else mean(fidelity.measures[BOX]).to_dict(name)


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
                hint="export both with NMS inside, or neither" if what == "NMS" else "name the float model of this one",
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

    Raises:
        ConfigError: The image size does not fit a model.
        DataError: There is no image, or one does not decode.
        ModelError: The two models' classes, tasks or outputs differ.
    """
    check_alike(floating.info, other.info, names)
    check_fit(other.info, config)  # the reference checks its own
    reference = Reference(floating, images, config, detections=detections, progress=run.labelled(names[0]))
    return reference.compare(other, progress=run.labelled(names[1]))


def float_reference(ptq: Ptq, images: Sequence[ImageRecord], config: EvalConfig, *, run: Run) -> Reference | None:
    """Return the raw outputs of a swapped detector with its quantizers switched off; None where there are no images.

    Args:
        ptq: The swapped detector, calibrated or not.
        images: What it runs on; labels are not needed.
        config: Image size and batch.
        run: Who watches.

    Raises:
        DataError: An image does not decode.
    """
    if not images:
        return None
    with quantization_disabled(ptq.detector.module):
        return Reference(ptq.predictor, images, config, detections=False, progress=run.labelled("float"))
