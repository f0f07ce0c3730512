from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from yoloqat.evaluation import Detections, average_precision, mean_average_precision, score
from yoloqat.evaluation.matching import subset

SEEDS = st.integers(0, 2**32 - 1)


def replicated(dataset, detections, weights):
    """Write the weights out: a data set in which image i is there ``weights[i]`` times."""
    ends = np.cumsum(detections.counts)
    rows, annotations = [], []
    for position, copies in enumerate(weights):
        part = slice(ends[position] - detections.counts[position], ends[position])
        row = np.column_stack((detections.boxes[part], detections.scores[part], detections.classes[part]))
        own = [entry for entry in dataset.annotations["annotations"] if entry["image_id"] == position + 1]
        for _ in range(copies):
            rows.append(row.astype(np.float32))
            annotations += [
                entry | {"id": len(annotations) + n, "image_id": len(rows)} for n, entry in enumerate(own, 1)
            ]
    return annotations, rows


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_with_weights_of_one_it_equals_pycocotools(problem, seed):
    dataset, detections = problem(seed)
    evaluation = score(dataset, detections, dataset.names)
    (found,) = mean_average_precision(evaluation.matches)
    expected = evaluation.metrics.map50_95
    assert np.isnan(found) if expected is None else abs(found - expected) <= 1e-12


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_a_weight_counts_an_image_that_often(problem, seed, weights):
    assume(any(weights))
    dataset, detections = problem(seed)
    matches = score(dataset, detections, dataset.names).matches
    annotations, rows = replicated(dataset, detections, weights)
    content = dataset.annotations | {"images": [{"id": n} for n in range(1, len(rows) + 1)], "annotations": annotations}
    copies = type(dataset)((), dataset.names, content)
    expected = score(copies, Detections.of_images(range(1, len(rows) + 1), rows), dataset.names).metrics.map50_95
    (found,) = mean_average_precision(matches, np.array(weights)[:, None])
    assert np.isnan(found) if expected is None else abs(found - expected) <= 1e-12


def test_many_sets_of_weights_give_what_each_gives_alone_in_any_block(problem, monkeypatch):
    dataset, detections = problem(5, images=20)
    matches = score(dataset, detections, dataset.names).matches
    weights = np.random.default_rng(0).integers(0, 3, size=(20, 17))
    together = mean_average_precision(matches, weights)
    monkeypatch.setattr(average_precision, "_BLOCK", 100)
    assert mean_average_precision(matches, weights).tolist() == together.tolist()
    alone = [mean_average_precision(matches, weights[:, [column]])[0] for column in range(17)]
    assert alone == together.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_a_subset_scores_as_weights_of_zero_and_one(problem, seed):
    dataset, detections = problem(seed, images=16)
    matches = score(dataset, detections, dataset.names).matches
    mask = np.random.default_rng(seed).random(16) < 0.5
    part = subset(matches, mask)
    assert part.image_ids == tuple(np.flatnonzero(mask) + 1)
    expected = mean_average_precision(matches, mask[:, None])
    np.testing.assert_allclose(mean_average_precision(part), expected, rtol=0, atol=1e-12)


def test_without_any_object_it_is_nan(problem):
    dataset, detections = problem(5)
    matches = score(dataset, detections, dataset.names).matches
    assert np.isnan(mean_average_precision(matches, np.zeros((4, 1), dtype=np.int64))).all()
