from __future__ import annotations

import numpy as np
import pytest

from yoloqat.errors import ConfigError, DataError
from yoloqat.evaluation import (
    CategoryMatches,
    Matches,
    Resampling,
    bootstrap,
    mean_average_precision,
    paired_difference,
    score,
    split_halves,
)
from yoloqat.evaluation.interval import difference_interval


def one_object_per_image(rng, images, *, skill, shift=None):
    """One object and one detection per image; how many thresholds it reaches depends on ``skill`` and on the image."""
    hardness = rng.random(images) if shift is None else shift
    reached = np.clip((skill - hardness) * 14 + rng.normal(0, 1, images), 0, 10).astype(int)
    scores = rng.random(images)
    order = np.argsort(-scores)
    correct = np.arange(10)[:, None] < reached[order]
    category = CategoryMatches(1, scores[order], order, correct, np.zeros_like(correct), np.ones(images, np.int64))
    return Matches(tuple(range(images)), (category,))


def test_a_model_against_itself_is_exactly_nothing(problem):
    dataset, detections = problem(4, images=30)
    matches = score(dataset, detections, dataset.names).matches
    interval = paired_difference(matches, matches, resamples=50)
    assert (interval.difference, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_the_interval_covers_the_difference_in_the_population():
    rng = np.random.default_rng(0)
    hardness = rng.random(20000)
    truth = (
        mean_average_precision(one_object_per_image(rng, 20000, skill=0.9, shift=hardness))[0]
        - mean_average_precision(one_object_per_image(rng, 20000, skill=0.8, shift=hardness))[0]
    )
    covered = 0
    for seed in range(40):
        hardness = rng.random(150)
        better = one_object_per_image(rng, 150, skill=0.9, shift=hardness)
        worse = one_object_per_image(rng, 150, skill=0.8, shift=hardness)
        interval = paired_difference(better, worse, resamples=200, seed=seed)
        covered += interval.low <= truth <= interval.high
    # 38 of 40 on average; below 32 has a probability under 0.001 at a coverage of 0.93
    assert covered >= 32


def test_a_worse_model_is_told_from_a_better_one_and_the_sign_is_a_minus_b():
    rng = np.random.default_rng(1)
    hardness = rng.random(300)
    better = one_object_per_image(rng, 300, skill=1.1, shift=hardness)
    worse = one_object_per_image(rng, 300, skill=0.6, shift=hardness)
    interval = paired_difference(better, worse, resamples=200)
    assert 0 < interval.low < interval.difference < interval.high
    reverse = paired_difference(worse, better, resamples=200)
    assert (reverse.low, reverse.high) == pytest.approx((-interval.high, -interval.low), abs=1e-12)


def test_resamples_are_seeded_whole_and_of_the_size_of_the_data_set():
    weights = Resampling(37, resamples=5, seed=3).weights()
    assert weights.shape == (37, 5)
    assert weights.sum(axis=0).tolist() == [37] * 5
    np.testing.assert_array_equal(weights, Resampling(37, resamples=5, seed=3).weights())
    assert (weights != Resampling(37, resamples=5, seed=4).weights()).any()


def test_a_cached_baseline_gives_the_same_interval(problem, no_detections):
    dataset, detections = problem(4, images=30)
    a = score(dataset, detections, dataset.names).matches
    b = score(dataset, no_detections(dataset), dataset.names).matches
    resampling = Resampling(30, 100, 7)
    difference = mean_average_precision(a)[0] - mean_average_precision(b)[0]
    cached = difference_interval(float(difference), bootstrap(a, resampling), bootstrap(b, resampling), images=30)
    assert cached == paired_difference(a, b, resamples=100, seed=7)


def test_halves_are_disjoint_and_seeded():
    first, second = split_halves(7, seed=1)
    assert (first ^ second).all()
    assert (first.sum(), second.sum()) == (3, 4)
    assert (split_halves(7, seed=1)[0] == first).all()
    assert any((split_halves(7, seed=seed)[0] != first).any() for seed in range(2, 6))


def test_what_cannot_be_compared_is_told(problem):
    dataset, detections = problem(4)
    matches = score(dataset, detections, dataset.names).matches
    with pytest.raises(DataError, match="the two evaluations are of 4 and 0 images"):
        paired_difference(matches, Matches((), ()))
    with pytest.raises(DataError, match="the resampling is for 9 images and the evaluation has 4"):
        bootstrap(matches, Resampling(9))
    with pytest.raises(DataError, match="none of 3 resamples has an object"):
        paired_difference(Matches((1,), ()), Matches((1,), ()), resamples=3)


def test_settings_are_checked():
    for settings, message in (((0,), "images is 0"), ((3, 0), "resamples is 0"), ((3, 1, -1), "seed is -1")):
        with pytest.raises(ConfigError, match=message):
            Resampling(*settings)
    with pytest.raises(ConfigError, match="images is 1"):
        split_halves(1)


def test_an_interval_holds_what_was_measured():
    resampled = np.linspace(0.1, 0.2, 101)
    below, above = (difference_interval(value, resampled, np.zeros(101), images=9) for value in (0.05, 0.3))
    assert (below.low, below.high) == (0.05, pytest.approx(0.1975))
    assert (above.low, above.high) == (pytest.approx(0.1025), 0.3)


def test_one_image_gives_no_interval():
    one = one_object_per_image(np.random.default_rng(0), 1, skill=2.0, shift=np.zeros(1))
    found = paired_difference(one, one, resamples=3)
    assert (found.difference, found.low, found.high) == (0.0, -np.inf, np.inf)
