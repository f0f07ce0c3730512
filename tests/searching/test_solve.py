"""Float sets against what trying all of them gives."""

from __future__ import annotations

import math
from itertools import chain, combinations

import numpy as np
import pytest

from yoloqat.errors import ConfigError
from yoloqat.searching import Border, Choice, Problem, frontier, least_latency, least_noise


def all_sets(problem):
    indices = range(len(problem.choices))
    return [
        problem.float_set(s) for s in chain.from_iterable(combinations(indices, n) for n in range(len(indices) + 1))
    ]


@pytest.fixture(params=range(4))
def problem(request):
    """Seven choices in a chain with jumps, one of which is faster in floating point."""
    draw = np.random.default_rng(request.param)
    shares = draw.dirichlet(np.full(8, 0.5))  # the eighth part belongs to no layer
    choices = [Choice((f"layer{i}",), float(shares[i]), float(draw.uniform(-0.1, 1.0))) for i in range(7)]
    ends = [(None, 0), *((i, i + 1) for i in range(6)), (1, 5), (2, 6), (6, None), (3, 3)]
    return Problem(tuple(choices), tuple(Border(a, b, float(draw.uniform(0, 0.5))) for a, b in ends), 0.2, 6.0)


def test_the_least_noise_within_a_latency_is_that_of_all_sets(problem):
    for limit in (5.0, 6.0, 6.3, 7.0, 8.0, 30.0):
        fast = [found for found in all_sets(problem) if found.latency_ms <= limit + 1e-9]
        found = least_noise(problem, limit)
        if not fast:
            assert found is None
            continue
        assert found.latency_ms <= limit + 1e-6
        assert found.d == pytest.approx(min(other.d for other in fast), abs=1e-6)


def test_the_least_latency_within_a_noise_is_that_of_all_sets(problem):
    for limit in (0.0, 0.05, 0.1, 0.15, 0.2, 1.0):
        quiet = [found for found in all_sets(problem) if found.d <= limit + 1e-12]
        found = least_latency(problem, limit)
        if not quiet:
            assert found is None
            continue
        assert found.d <= limit + 1e-6
        assert found.latency_ms == pytest.approx(min(other.latency_ms for other in quiet), abs=1e-4)


def test_the_frontier_has_both_ends_and_nothing_that_any_set_beats(problem):
    found, every = frontier(problem, points=9), all_sets(problem)
    assert found[0].latency_ms == pytest.approx(min(other.latency_ms for other in every), abs=1e-4)
    assert found[-1].d == pytest.approx(min(other.d for other in every), abs=1e-6)
    for point in found:
        better = [other for other in every if other.latency_ms <= point.latency_ms and other.d < point.d - 1e-6]
        assert not better
    assert [point.d for point in found] == sorted((point.d for point in found), reverse=True)
    assert [point.latency_ms for point in found] == sorted(point.latency_ms for point in found)


def test_borders_make_neighbours_go_together():
    choices = tuple(Choice((name,), share, 1.0) for name, share in (("a", 0.4), ("b", 0.0), ("c", 0.4)))
    apart = Problem(choices, (), 1.0, 5.0)
    assert least_noise(apart, 7.0).layers == ("a", "c")
    dear = Problem(choices, (Border(0, 1, 5.0), Border(1, 2, 5.0)), 1.0, 5.0)
    assert least_latency(dear, math.sqrt(0.2) + 1e-9).layers == ("a", "b", "c")  # b costs 1 ms, two borders cost 10
    assert dear.float_set({0, 2}).latency_ms == pytest.approx(17.0)
    assert dear.float_set({0, 1, 2}).latency_ms == pytest.approx(8.0)


def test_a_float_neighbour_makes_a_border_cheaper():
    choice = Choice(("a",), 0.5, 1.0)
    ended = Problem((choice,), (Border(0, None, 0.75),), 1.0, 5.0)
    assert ended.float_set(()).latency_ms == 5.0  # whose latency holds the conversion
    assert ended.float_set({0}).latency_ms == 5.25
    assert least_noise(ended, 5.3).layers == ("a",)
    assert least_noise(ended, 5.2).layers == ()


def test_where_nothing_can_be_chosen_only_int8_is_left():
    nothing = Problem((), (), 0.1, 5.0)
    assert [found.layers for found in frontier(nothing)] == [()]
    assert least_noise(nothing, 4.0) is None


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (lambda: Problem((Choice(("a",), math.nan, 1.0),), (), 1.0, 1.0), r"share of \('a',\) is nan"),
        (lambda: Problem((Choice(("a",), -0.5, 1.0),), (), 1.0, 1.0), r"share of \('a',\) is -0.5"),
        (lambda: Problem((), (), math.inf, 1.0), "d is inf"),
        (lambda: Problem((), (Border(None, 2, 1.0),), 1.0, 1.0), "end of a border is 2"),
    ],
)
def test_unfit_figures_are_named(problem, message):
    with pytest.raises(ConfigError, match=message):
        problem()


def test_a_frontier_has_two_ends_at_least():
    with pytest.raises(ConfigError, match="points is 1"):
        frontier(Problem((), (), 0.1, 5.0), points=1)
