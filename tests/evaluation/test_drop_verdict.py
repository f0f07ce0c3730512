from __future__ import annotations

import math

import pytest

from yoloqat.evaluation.drop_verdict import Verdict


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.004, 0.005, "met"),
        (-0.004, 0.0051, "not told apart"),
        (0.005, 0.02, "not told apart"),
        (0.0051, 0.02, "exceeded"),
    ],
)
def test_a_verdict_is_by_the_interval(low: float, high: float, word: str) -> None:
    assert Verdict((low + high) / 2, low, high, 0.005, 100).word == word


def test_images_that_would_decide_follow_from_the_width_towards_the_limit() -> None:
    below = Verdict(0.003, -0.003, 0.007, 0.005, 100)
    assert below.images_to_decide == 400, "the upper half must shrink from 0.004 to 0.002"
    above = Verdict(0.007, 0.001, 0.009, 0.005, 100)
    assert above.images_to_decide == 900, "the lower half must shrink from 0.006 to 0.002"


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [(0.001, 0.0, 0.002), (0.005, 0.0, 0.01), (0.004, -math.inf, math.inf)],
    ids=["told", "at the limit", "one image"],
)
def test_no_number_is_named_where_none_would_tell(value: float, low: float, high: float) -> None:
    assert Verdict(value, low, high, 0.005, 100).images_to_decide is None


def test_entries_have_no_infinity() -> None:
    found = Verdict(0.004, -math.inf, math.inf, 0.005, 1).to_dict()
    assert found == {
        "verdict": "not told apart",
        "value": 0.004,
        "ci95": None,
        "limit": 0.005,
        "images": 1,
        "images_to_decide": None,
    }
