"""The fast matching equals pycocotools to the last digit, for every metric."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloqat.errors import ConfigError
from yoloqat.evaluation import score
from yoloqat.evaluation.ground_truth import GroundTruth
from yoloqat.evaluation.metric import KINDS, Metric
from yoloqat.evaluation.precision import assemble, mean_precision

SEEDS = st.integers(0, 2**32 - 1)


def matched(truth, detections):
    """Match every image of ``detections``, in the order of ``truth``."""
    ends = np.cumsum(detections.counts)
    rows = np.column_stack((detections.boxes, detections.scores, detections.classes)).astype(np.float32)
    rows_of = zip(detections.images.tolist(), ends, detections.counts, strict=True)
    where = {number: slice(end - count, end) for number, end, count in rows_of}
    return [truth.match(position, rows[where[number]]) for position, number in enumerate(truth.image_ids)]


def whole(truth, detections):
    found = matched(truth, detections)
    return assemble(truth, range(len(found)), found)


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.sampled_from([*KINDS, "class:dog", "class:owl"]), st.integers(1, 14))
def test_every_metric_equals_pycocotools_to_the_last_digit(problem, seed, text, objects):
    dataset, detections = problem(seed, objects=objects, detections=40)
    metric = Metric.parse(text)
    truth = GroundTruth.of(dataset, dataset.names, metric)
    expected = metric.read(score(dataset, detections, dataset.names).metrics)
    assert mean_precision(whole(truth, detections)) == expected


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_the_matches_are_those_read_out_of_pycocotools(problem, seed):
    dataset, detections = problem(seed, objects=10, detections=60)
    expected = score(dataset, detections, dataset.names).matches
    found = whole(GroundTruth.of(dataset, dataset.names, Metric()), detections)
    assert found.image_ids == expected.image_ids
    assert len(found.categories) == len(expected.categories)
    for own, other in zip(found.categories, expected.categories, strict=True):
        for name in ("category_id", "scores", "image", "correct", "ignored", "objects"):
            np.testing.assert_array_equal(getattr(own, name), getattr(other, name), err_msg=name)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_equal_scores_and_equal_boxes_fall_as_in_pycocotools(problem, seed):
    dataset, detections = problem(seed, objects=8, detections=50)
    rng = np.random.default_rng(seed)
    detections.scores[:] = rng.integers(1, 4, len(detections)) / 4
    for first in (annotation for annotation in dataset.annotations["annotations"] if rng.random() < 0.4):
        for other in dataset.annotations["annotations"]:
            if other["image_id"] == first["image_id"]:
                other["bbox"] = list(first["bbox"])
    truth = GroundTruth.of(dataset, dataset.names, Metric())
    assert mean_precision(whole(truth, detections)) == score(dataset, detections, dataset.names).metrics.map50_95


def test_at_most_100_detections_of_a_category_and_image_count(problem):
    dataset, detections = problem(1, images=2, objects=6, detections=400)
    truth = GroundTruth.of(dataset, dataset.names, Metric())
    found = matched(truth, detections)
    assert max(np.bincount(image.columns, minlength=1).max() for image in found) == 100
    assert mean_precision(whole(truth, detections)) == score(dataset, detections, dataset.names).metrics.map50_95


def test_an_unknown_class_and_an_unknown_metric_are_named(problem):
    dataset, _ = problem(0)
    with pytest.raises(ConfigError, match=r"metric is 'class:cow'; expected one of the classes cat, dog, owl"):
        GroundTruth.of(dataset, dataset.names, Metric.parse("class:cow"))
    with pytest.raises(ConfigError, match=r"metric is 'map90'; expected one of map50_95, .*class:NAME"):
        Metric.parse("map90")
    with pytest.raises(ConfigError, match=r"metric is 'map50' of one class"):
        Metric("map50", "cat")


@pytest.mark.parametrize("text", [*KINDS, "class:dog"])
def test_a_metric_is_read_from_its_own_text(text):
    assert str(Metric.parse(text)) == text
