from __future__ import annotations

from dataclasses import replace

import pytest

from yoloqat.errors import ModelError
from yoloqat.pipeline.fidelity import check_alike
from yoloqat.predictor import ModelInfo

PETS = ModelInfo(names={0: "cat", 1: "dog"})
NAMED = ("float.pt", "model.onnx")


def test_models_of_the_same_classes_are_compared() -> None:
    check_alike(PETS, replace(PETS, batch=1, imgsz=(64, 64), stride=16), NAMED)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (replace(PETS, names={0: "cat", 1: "owl"}), "classes .* differ: 2 with 1 'dog' and 2 with 1 'owl'"),
        (replace(PETS, names={0: "cat"}), "classes of 'float.pt' and 'model.onnx' differ: 2 with 1 'dog' and 1;"),
        (replace(PETS, task="segment"), "task of 'float.pt' and 'model.onnx' differ: detect and segment"),
        (replace(PETS, channels=1), "channels of the images of 'float.pt' and 'model.onnx' differ: 3 and 1"),
        (replace(PETS, end2end=True), "NMS of 'float.pt' and 'model.onnx' differ: left to others and inside the model"),
    ],
)
def test_what_differs_between_two_models_is_told(other: ModelInfo, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        check_alike(PETS, other, NAMED)
