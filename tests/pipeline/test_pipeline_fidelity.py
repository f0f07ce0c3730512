from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from yoloqat.config import EvalConfig
from yoloqat.datasets import ImageRecord
from yoloqat.errors import ConfigError, ModelError
from yoloqat.evaluation.reference import Fidelity
from yoloqat.pipeline.fidelity import box_results, check_alike, fidelity_to
from yoloqat.pipeline.run import Run
from yoloqat.predictor import ModelInfo, RawOutputs

PETS = ModelInfo(names={0: "cat", 1: "dog"})
NAMED = ("float.pt", "model.onnx")


class Unused:
    """A predictor that must not run."""

    def __init__(self, info: ModelInfo) -> None:
        self.info = info

    def __call__(self, images: NDArray[np.float32]) -> RawOutputs:
        raise AssertionError("it ran")


def test_an_image_size_that_fits_one_of_two_models_is_told_before_the_other_runs(make_run: Callable[..., Run]) -> None:
    images = [ImageRecord(Path("a.png"), 1, 64, 64)]
    fixed = Unused(replace(PETS, imgsz=(96, 96)))
    with pytest.raises(ConfigError, match="imgsz is 64 and the model is fixed to 96 x 96"):
        fidelity_to(Unused(PETS), fixed, images, EvalConfig(imgsz=64), run=make_run())


def test_models_of_the_same_classes_are_compared() -> None:
    check_alike(PETS, replace(PETS, batch=1, imgsz=(64, 64), stride=16), NAMED)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (replace(PETS, names={0: "cat", 1: "owl"}), "classes .* differ: 2 with 1 'dog' and 2 with 1 'owl'"),
        (replace(PETS, names={0: "cat"}), "classes of 'float.pt' and 'model.onnx' differ: 2 with 1 'dog' and 1;"),
        (replace(PETS, task="segment"), "task of 'float.pt' and 'model.onnx' differ: detect and segment"),
        (replace(PETS, channels=1), "channels of the images of 'float.pt' and 'model.onnx' differ: 3 and 1"),
        (
            replace(PETS, end2end=True),
            "NMS of 'float.pt' and 'model.onnx' differ: left to others and inside .* export both",
        ),
    ],
)
def test_what_differs_between_two_models_is_told(other: ModelInfo, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        check_alike(PETS, other, NAMED)


def test_boxes_are_told_beside_scores() -> None:
    """An engine whose scores are right and whose boxes are not (TensorRT #4854) shows."""
    measures = {"d": np.zeros(4), "box_disagreement": np.asarray([0.4, 0.5, np.nan, 0.6]), "score_shift": np.zeros(4)}
    found = box_results(Fidelity(measures, (1, 2, 3, 4)))
    assert found["box_disagreement"] == pytest.approx(0.5)
    low, high = found["box_disagreement_ci95"]
    assert 0.4 <= low < high <= 0.6
    assert box_results(None, "qfloat_box_disagreement") == {
        "qfloat_box_disagreement": None,
        "qfloat_box_disagreement_ci95": None,
    }
