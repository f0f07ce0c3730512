from __future__ import annotations

import numpy as np
import pytest

from yoloqat.config import EvalConfig
from yoloqat.errors import ConfigError
from yoloqat.evaluation import Detections, DetectionStore, evaluate

CONFIG = EvalConfig(imgsz=64, batch=2)


def test_an_interrupted_evaluation_goes_on_with_the_same_numbers(blob_dataset, blob_predictor, tmp_path):
    whole = evaluate(blob_predictor(), blob_dataset, CONFIG)
    store = DetectionStore(tmp_path / "store", "key", batches=2)
    with pytest.raises(KeyboardInterrupt):
        evaluate(blob_predictor(interrupt_after=3), blob_dataset, CONFIG, store=store)
    again = blob_predictor()
    resumed = evaluate(again, blob_dataset, CONFIG, store=store)
    assert again.seen == [2, 2, 1]  # the first chunk of two batches of two is not run again
    assert resumed.metrics == whole.metrics
    np.testing.assert_array_equal(resumed.detections.boxes, whole.detections.boxes)
    np.testing.assert_array_equal(resumed.detections.scores, whole.detections.scores)
    finished = blob_predictor()
    assert evaluate(finished, blob_dataset, CONFIG, store=store).metrics == whole.metrics
    assert finished.seen == []


def test_another_key_finds_nothing(blob_dataset, blob_predictor, tmp_path):
    evaluate(blob_predictor(), blob_dataset, CONFIG, store=DetectionStore(tmp_path, "one"))
    other = blob_predictor()
    evaluate(other, blob_dataset, CONFIG, store=DetectionStore(tmp_path, "two"))
    assert sum(other.seen) == 9


def test_damaged_chunks_and_chunks_of_other_images_are_made_again(tmp_path):
    store = DetectionStore(tmp_path, "key")
    assert store.load(0, [1, 2]) is None
    store.save(0, Detections.of_images([1, 2], [np.zeros((0, 6), np.float32)] * 2))
    assert store.load(0, [1, 2]) is not None
    assert store.load(0, [1, 3]) is None
    store.path(0).write_bytes(b"cut off")
    assert store.load(0, [1, 2]) is None


def test_the_size_of_a_chunk_is_checked(tmp_path):
    with pytest.raises(ConfigError, match="batches is 0"):
        DetectionStore(tmp_path, "key", 0)
