from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloqat.detectors import TorchPredictor
from yoloqat.evaluation import Resampling, bootstrap, evaluate
from yoloqat.sensitivity.edges import switched
from yoloqat.sensitivity.effects import Effect, tied, with_least_error
from yoloqat.sensitivity.items import BASE, OTHER
from yoloqat.sensitivity.ranking import evaluations, measured, rank_correlation
from yoloqat.sensitivity.study import Study
from yoloqat.sensitivity.workers import work

BOUNDS = st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1)).map(lambda b: (b[0] - b[1], b[0] + b[1])), max_size=8)


def effect(value, error, images=100):
    return Effect(0.5, value, error, images, np.zeros(images), tuple(range(images)))


@given(BOUNDS)
def test_ranks_count_what_lies_wholly_above_and_ties_what_overlaps(intervals):
    found = tied(intervals)
    for (rank, others), (low, high) in zip(found, intervals, strict=True):
        assert rank == 1 + sum(other[0] > high for other in intervals)
        assert others == sum(max(low, other[0]) <= min(high, other[1]) for other in intervals) - 1


def test_an_interval_is_two_standard_errors_wide_on_either_side():
    assert effect(0.02, 0.005).interval == pytest.approx((0.0102, 0.0298), abs=1e-6)
    assert effect(0.02, 0.005).decided
    assert not effect(0.002, 0.005).decided
    assert effect(-0.02, 0.005).decided


def test_images_needed_shrink_the_interval_to_the_effect():
    found = effect(0.002, 0.005, images=200)
    needed = found.images_needed
    assert needed == math.ceil(200 * (1.959964 * 2.5) ** 2)
    shrunk = 0.005 * math.sqrt(200 / needed)
    assert 1.959964 * shrunk == pytest.approx(0.002, rel=1e-2)
    assert effect(0.0, 0.005).images_needed is None


@pytest.fixture(scope="module")
def study_of(tmp_path_factory):
    def make(scanner, name):
        study = Study(tmp_path_factory.mktemp(name) / "study.db", {})
        study.want(scanner.names, range(len(scanner.batches)))
        work(study, scanner)
        return study

    return make


@pytest.mark.parametrize(
    "scan", [{}, {"mode": "one-at-a-time", "bits": 3}, {"metric": "map50"}, {"metric": "class:disc"}]
)
def test_every_item_has_the_metric_of_a_full_evaluation_to_the_last_bit(make_scanner, dataset, study_of, scan):
    scanner = make_scanner(**scan)
    study = study_of(scanner, "study")
    known = measured(study, scanner)
    predictor = TorchPredictor(scanner.detector)
    edges = {edge.name: edge for edge in scanner.edges}
    metric = scanner.truth.metric
    for name, switches in [(BASE, scanner.base), *scanner.switches.items()]:
        with switched(scanner.detector.module, edges, switches):
            full = evaluate(predictor, dataset, scanner.config)
        found = known.effect(study.results(name))
        assert found.value == metric.read(full.metrics), name
        assert found.images == len(dataset.images)
    floating, quantized = evaluations(study, scanner, dataset)
    other = known.effect(study.results(OTHER))
    assert abs(other.effect) == pytest.approx(abs(metric.read(floating.metrics) - metric.read(quantized.metrics)))
    study.close()


def test_the_standard_error_is_that_of_the_paired_bootstrap(make_scanner, study_of):
    scanner = make_scanner(mode="one-at-a-time", bits=2)
    study = study_of(scanner, "bootstrap")
    known = measured(study, scanner)
    base = bootstrap(known.matches(), Resampling(10, 3000))
    ratios = []
    for item in scanner.items:
        results = study.results(item.name)
        found = known.effect(results)
        resampled = (base - bootstrap(known.matches(results), Resampling(10, 3000))).std()
        if resampled > 0.01:
            ratios.append(found.error / resampled)
    assert len(ratios) >= 5
    assert 0.8 < np.median(ratios) < 1.4  # ten images: the two agree better on more
    study.close()


def test_rank_correlation_counts_ranks_and_means_them_for_equals():
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 1000]) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1.0)
    # by hand: ranks (1, 2.5, 2.5, 4) and (1, 3, 2, 4)
    assert rank_correlation([1, 2, 2, 3], [1, 3, 2, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None
    assert rank_correlation([], []) is None


def test_an_item_that_changed_nothing_is_known_no_better_than_its_images_tell():
    spread = [effect(0.02, 0.01, images=8), effect(0.01, 0.02, images=20)]
    found = with_least_error([*spread, effect(0.0, 0.0, images=8)])
    pooled = (8 * 0.01**2 + 20 * 0.02**2 + 0.0) / 3
    assert [one.error for one in found[:2]] == [0.01, 0.02]
    assert found[2].error == pytest.approx(math.sqrt(pooled) / 8)
    low, high = found[2].interval
    assert low < 0 < high
    assert not found[2].decided


def test_one_image_has_no_interval_and_needs_no_number_of_images():
    (found,) = with_least_error([effect(0.02, math.inf, images=1)])
    assert found.interval == (-math.inf, math.inf)
    assert found.images_needed is None
    assert with_least_error([]) == []
