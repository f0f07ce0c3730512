"""The influence of an image is the derivative by its weight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloqat.evaluation import Matches, Resampling, bootstrap, score
from yoloqat.evaluation.precision import influence, mean_precision

SEEDS = st.integers(0, 2**32 - 1)


def smooth_map(matches, weights):
    """Average precision as a sum over right detections: the definition, written out without running sums."""
    values = []
    for category in matches.categories:
        total = float(category.objects @ weights)
        for correct, ignored in zip(category.correct, category.ignored, strict=True):
            own = weights[category.image]
            right, counted = np.cumsum(own * correct), np.cumsum(own * ~ignored)
            precision = [(right[q] / counted[q]) if counted[q] > 0 else 0.0 for q in range(len(own))]
            values.append(sum(own[p] * max(precision[p:]) for p in np.flatnonzero(correct)) / total)
    return float(np.mean(values))


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_it_is_the_difference_quotient(problem, seed):
    dataset, detections = problem(seed, images=5)
    matches = score(dataset, detections, dataset.names).matches
    if not matches.categories:
        assert influence(matches).tolist() == [0.0] * 5
        return
    found = influence(matches)
    assert abs(found.sum()) < 1e-12
    step = 1e-6
    for image in range(5):
        up, down = np.ones(5), np.ones(5)
        up[image] += step
        down[image] -= step
        quotient = (smooth_map(matches, up) - smooth_map(matches, down)) / (2 * step)
        # where two positions have equal precision there is a kink; the quotient then lies between two derivatives
        one_sided = (smooth_map(matches, up) - smooth_map(matches, np.ones(5))) / step
        assert min(abs(found[image] - quotient), abs(found[image] - one_sided)) < 1e-5 + abs(quotient - one_sided)


@pytest.mark.parametrize("seed", range(3))
def test_its_squares_add_up_to_the_variance_of_the_bootstrap(problem, seed):
    dataset, detections = problem(seed, images=150, objects=8, detections=30)
    matches = score(dataset, detections, dataset.names).matches
    resampled = bootstrap(matches, Resampling(150, 2000))
    assert np.sqrt((influence(matches) ** 2).sum()) == pytest.approx(resampled.std(), rel=0.1)


def test_without_an_object_there_is_no_value():
    assert mean_precision(Matches((1, 2), ())) is None
    assert influence(Matches((1, 2), ())).tolist() == [0.0, 0.0]
