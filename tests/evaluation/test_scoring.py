from __future__ import annotations

import re

import numpy as np
import pytest

from yoloqat.config import EvalConfig
from yoloqat.config.sizes import size_text
from yoloqat.errors import ConfigError, DataError, ModelError
from yoloqat.evaluation import evaluate
from yoloqat.evaluation.scoring import check_fit
from yoloqat.predictor import ModelInfo, Predictor

NAMES = {0: "cat", 1: "dog"}


class Constant:
    """Answers every batch with the same raw output per image."""

    def __init__(self, output, **info):
        self.info = ModelInfo(names=NAMES, **info)
        self.output = np.asarray(output, np.float32)

    def __call__(self, images):
        return [np.broadcast_to(self.output, (len(images), *self.output.shape))]


@pytest.mark.parametrize("rect", [False, True])
def test_boxes_come_back_to_the_image_and_score_well(blob_dataset, blob_predictor, rect):
    predictor = blob_predictor()
    assert isinstance(predictor, Predictor)
    evaluation = evaluate(predictor, blob_dataset, EvalConfig(imgsz=128, batch=4, rect=rect))
    assert evaluation.metrics.map50 == pytest.approx(1.0)
    assert evaluation.metrics.map50_95 > 0.8
    assert evaluation.metrics.images == 9
    assert evaluation.to_dict()["labels"] == "blobs"
    truth = {entry["image_id"]: entry["bbox"] for entry in blob_dataset.annotations["annotations"]}
    for result in evaluation.detections.to_coco({0: 0, 1: 1}):
        np.testing.assert_allclose(result["bbox"], truth[result["image_id"]], atol=1.5)


def test_a_fixed_batch_is_filled_up_and_trimmed(blob_dataset, blob_predictor):
    free = evaluate(blob_predictor(), blob_dataset, EvalConfig(imgsz=64, batch=4))
    fixed = blob_predictor(info=ModelInfo(names=NAMES, batch=4, imgsz=(64, 64)))
    assert evaluate(fixed, blob_dataset, EvalConfig(imgsz=64, batch=2)).metrics == free.metrics
    assert fixed.seen == [4, 4, 4]


def test_an_end_to_end_head_is_taken_as_it_is(blob_dataset):
    rows = np.array([[0, 0, 32, 32, 0.5, 1], [0, 0, 32, 32, 0.4, 1], [0, 0, 32, 32, 0.0001, 1]])
    evaluation = evaluate(Constant(rows, end2end=True), blob_dataset, EvalConfig(imgsz=64))
    assert evaluation.detections.counts.tolist() == [2] * 9


def test_progress_is_told_of_every_batch_and_the_end(blob_dataset, blob_predictor):
    told = []
    config = EvalConfig(imgsz=64, batch=4)
    evaluate(blob_predictor(), blob_dataset, config, progress=lambda *state: told.append(state))
    assert told == [("evaluate", 4, 9), ("evaluate", 8, 9), ("evaluate", 9, 9), ("evaluate", 9, 9)]


def test_an_unfit_image_size_is_told(blob_dataset, blob_predictor):
    with pytest.raises(ConfigError, match=r"imgsz is 100; .* stride 32; set imgsz to 96 or 128"):
        evaluate(blob_predictor(), blob_dataset, EvalConfig(imgsz=100))
    fixed = blob_predictor(info=ModelInfo(names=NAMES, imgsz=(64, 96)))
    with pytest.raises(ConfigError, match="imgsz is 64 and the model is fixed to 64 x 96"):
        evaluate(fixed, blob_dataset, EvalConfig(imgsz=64))
    square = blob_predictor(info=ModelInfo(names=NAMES, imgsz=(64, 64)))
    with pytest.raises(ConfigError, match="imgsz is 64 rectangular and the model is fixed to 64 x 64"):
        evaluate(square, blob_dataset, EvalConfig(imgsz=64, rect=True))


def test_unfit_names_are_told_before_the_model_runs(blob_dataset, blob_predictor):
    predictor = blob_predictor(info=ModelInfo(names={0: "cat", 1: "cow"}))
    with pytest.raises(DataError, match="model classes without a category: 'cow'"):
        evaluate(predictor, blob_dataset, EvalConfig(imgsz=64))
    assert predictor.seen == []


@pytest.mark.parametrize("label", [2, -1, 0.5])
def test_a_class_that_the_model_has_not_is_told(blob_dataset, label):
    rows = np.array([[0, 0, 32, 32, 0.5, 1], [0, 0, 32, 32, 0.4, label], [0, 0, 0, 0, 0, -1]])
    with pytest.raises(ModelError, match=f"an object of the class {label}; expected whole numbers from 0 to 1"):
        evaluate(Constant(rows, end2end=True), blob_dataset, EvalConfig(imgsz=64))


def test_unfit_outputs_are_told(blob_dataset):
    config = EvalConfig(imgsz=64, batch=4)
    with pytest.raises(ModelError, match=re.escape("raw output has the shape (4, 5, 3); expected (4, 6, anchors)")):
        evaluate(Constant(np.zeros((5, 3))), blob_dataset, config)
    with pytest.raises(ModelError, match=re.escape("raw output has the shape (4, 3, 5); expected (4, detections, 6)")):
        evaluate(Constant(np.zeros((3, 5)), end2end=True), blob_dataset, config)
    with pytest.raises(ModelError, match=re.escape("raw output has the shape (4, 7, 3); expected (4, 6, anchors)")):
        evaluate(Constant(np.zeros((7, 3))), blob_dataset, config)  # a class more than there are names
    with pytest.raises(ModelError, match=re.escape("raw output has the shape (4, 3); expected (4, 6, anchors)")):
        evaluate(Constant(np.zeros(3)), blob_dataset, config)
    for value in (np.nan, np.inf):
        with pytest.raises(ModelError, match=r"for image '.*1.png' holds NaN or infinity"):
            evaluate(Constant(np.full((6, 3), value)), blob_dataset, config)


def test_an_image_that_does_not_decode_is_named(blob_dataset, blob_predictor):
    blob_dataset.images[4].path.write_bytes(b"broken")
    with pytest.raises(DataError, match=re.escape(f"image '{blob_dataset.images[4].path}' does not decode")):
        evaluate(blob_predictor(), blob_dataset, EvalConfig(imgsz=64))


def test_a_file_of_an_absurd_batch_is_refused():
    with pytest.raises(ConfigError, match="batch is 1000000 images of 640 x 640 pixels; expected at most 1310 images"):
        check_fit(ModelInfo({0: "a"}, batch=1_000_000), EvalConfig())


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ((64, 100), "imgsz is 64 x 100; .*; set imgsz to 64 96 or 64 128"),
        (40, "imgsz is 40; .*; set imgsz to 32 or 64"),
    ],
)
def test_sides_are_multiples_of_the_stride(asked, told):
    with pytest.raises(ConfigError, match=told):
        check_fit(ModelInfo({0: "a"}), EvalConfig(imgsz=asked))


def test_a_model_of_a_fixed_size_takes_no_other():
    info = ModelInfo({0: "a"}, imgsz=(64, 96))
    check_fit(info, EvalConfig(imgsz=(64, 96)))
    for asked in (64, 96, (96, 64)):
        with pytest.raises(ConfigError, match=f"imgsz is {size_text(asked)} and the model is fixed to 64 x 96"):
            check_fit(info, EvalConfig(imgsz=asked))
