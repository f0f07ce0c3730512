from __future__ import annotations

import numpy as np
import pytest

from yoloqat.evaluation.expected_drop import KNOTS, MIDDLE, SPREAD, expected_drop


def test_the_rule_rises_from_nothing() -> None:
    assert len(KNOTS) == len(MIDDLE) == len(SPREAD)
    assert KNOTS[0] == MIDDLE[0] == 0.0
    assert (np.diff(KNOTS) > 0).all()
    assert (np.diff(MIDDLE) >= 0).all()
    assert expected_drop(0.0, 0.4)["expected_drop"] == 0.0


def test_the_drop_is_a_share_of_the_float_map() -> None:
    found = expected_drop(KNOTS[4], 0.4)
    low, high = found["expected_drop_band"]
    assert found["expected_drop"] == pytest.approx(0.4 * MIDDLE[4])
    assert 0.0 <= low <= found["expected_drop"] <= high
    assert expected_drop(KNOTS[4], None)["expected_relative_drop"] == pytest.approx(MIDDLE[4])


@pytest.mark.parametrize("d", [None, -0.1, KNOTS[-1] + 1e-9])
def test_beyond_what_was_measured_there_is_no_rule(d: float | None) -> None:
    assert expected_drop(d, 0.4) == {"expected_drop": None, "expected_drop_band": None}
