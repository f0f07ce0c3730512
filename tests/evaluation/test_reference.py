from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yoloqat.config import EvalConfig
from yoloqat.errors import ConfigError, DataError, ModelError
from yoloqat.evaluation.reference import Reference
from yoloqat.predictor import ModelInfo

CONFIG = EvalConfig(imgsz=64, batch=4)


def scaled(predictor, factor):
    """The same predictor with its scores multiplied."""

    class Scaled:
        info = predictor.info

        def __call__(self, images):
            raw = predictor(images)[0].copy()
            raw[:, 4:] *= factor
            return [raw]

    return Scaled()


def test_a_model_that_halves_its_scores_has_half_the_noise_and_all_of_its_boxes(blob_dataset, blob_predictor):
    reference = Reference(blob_predictor(), blob_dataset.images, CONFIG)
    found = reference.compare(scaled(blob_predictor(), 0.5))
    assert found.d.value == pytest.approx(0.5)
    results = found.to_dict()
    assert results["box_disagreement"] == pytest.approx(0.0)
    assert results["score_shift"] < 0
    assert results["fidelity_map"] == pytest.approx(1.0)
    assert results["fidelity_images"] == 9
    low, high = results["d_ci95"]
    assert low <= results["d"] <= high
    assert "d" in repr(found)
    assert "<table>" in found._repr_html_()


def test_a_fixed_batch_is_filled_up(blob_dataset, blob_predictor):
    reference = Reference(blob_predictor(), blob_dataset.images, CONFIG)
    fixed = blob_predictor(info=ModelInfo(names=blob_dataset.names, batch=4, imgsz=(64, 64)))
    assert reference.compare(fixed).d.value == 0.0


@pytest.mark.parametrize(("first", "second"), [(None, 2), (2, None), (4, 3), (3, 4)])
def test_models_of_different_fixed_batches_are_compared(blob_dataset, blob_predictor, first, second):
    def fixed(batch):
        return blob_predictor(info=ModelInfo(names=blob_dataset.names, batch=batch))

    reference, other = Reference(fixed(first), blob_dataset.images, CONFIG), fixed(second)
    found = reference.compare(other)
    assert found.d.value == 0.0
    assert len(found.measures["d"]) == 9
    assert set(other.seen) == ({second} if second else {2, 1})


def test_no_labels_are_needed(blob_dataset, blob_predictor):
    bare = replace(blob_dataset, annotations={"images": [], "annotations": [], "categories": []})
    reference = Reference(blob_predictor(), bare.images, CONFIG, detections=False)
    found = reference.compare(scaled(blob_predictor(), 0.9))
    assert found.d.value == pytest.approx(0.1)
    assert "fidelity_map" not in found.to_dict()


def test_a_float_model_that_sees_nothing_gives_no_fidelity_map(blob_dataset, blob_predictor):
    reference = Reference(scaled(blob_predictor(), 0.01), blob_dataset.images, CONFIG)
    assert "fidelity_map" not in reference.compare(scaled(blob_predictor(), 0.01)).to_dict()


def test_resamples_without_an_object_are_left_out_of_the_interval(blob_dataset, blob_predictor):
    class Rare:
        """Believes in what it sees in one image alone."""

        info = blob_predictor().info

        def __call__(self, images):
            raw = blob_predictor()(images)[0]
            raw[1:, 4:] *= 0.1
            return [raw]

    found = Reference(Rare(), blob_dataset.images, EvalConfig(imgsz=64, batch=9)).compare(blob_predictor()).to_dict()
    low, high = found["fidelity_map_ci95"]
    assert low <= found["fidelity_map"] <= high
    alone = Reference(blob_predictor(), blob_dataset.images[:1], CONFIG).compare(blob_predictor()).to_dict()
    assert (alone["fidelity_map"], alone["fidelity_map_ci95"]) == (pytest.approx(1.0), None)
    assert alone["fidelity_map_ci95_reason"]


def test_progress_is_told_of_images(blob_dataset, blob_predictor):
    told = []
    reference = Reference(blob_predictor(), blob_dataset.images, CONFIG, progress=lambda *state: told.append(state))
    assert told == [("fidelity", 4, 9), ("fidelity", 8, 9), ("fidelity", 9, 9)]
    reference.compare(blob_predictor(), progress=lambda *state: told.append(state))
    assert told[3:] == told[:3]


def test_no_image_is_refused(blob_predictor):
    with pytest.raises(DataError, match="there are 0 images to compare models on"):
        Reference(blob_predictor(), [], CONFIG)


def test_a_size_that_does_not_fit_is_refused(blob_dataset, blob_predictor):
    with pytest.raises(ConfigError, match="imgsz is 70"):
        Reference(blob_predictor(), blob_dataset.images, EvalConfig(imgsz=70))
    reference = Reference(blob_predictor(), blob_dataset.images, CONFIG)
    with pytest.raises(ConfigError, match="fixed to 128 x 128"):
        reference.compare(blob_predictor(info=ModelInfo(names=blob_dataset.names, imgsz=(128, 128))))


def test_another_number_of_anchors_is_refused(blob_dataset, blob_predictor):
    reference = Reference(blob_predictor(), blob_dataset.images, CONFIG)

    class Double:
        info = blob_predictor().info

        def __call__(self, images):
            raw = blob_predictor()(images)[0]
            return [np.concatenate((raw, raw), axis=2)]

    with pytest.raises(ModelError, match="cannot be compared"):
        reference.compare(Double())
