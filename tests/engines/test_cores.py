from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloqat.engines.cores import choose_cores, pinned

SIBLINGS = {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 4]), (4, [0, 1, 4, 5]), (9, [0, 1, 4, 5])]
)
def test_physical_cores_come_first(count, chosen):
    assert choose_cores([0, 1, 4, 5], SIBLINGS, count) == chosen


def test_only_allowed_cores_and_unknown_ones_stand_for_themselves():
    assert choose_cores([4, 5, 7], SIBLINGS, 2) == [4, 5]
    assert choose_cores([9, 8], {}, 2) == [8, 9]


@given(st.sets(st.integers(0, 63), min_size=1), st.integers(1, 64))
def test_as_many_as_there_are(allowed, count):
    chosen = choose_cores(sorted(allowed), {core: str(core % 8) for core in allowed}, count)
    assert len(chosen) == min(count, len(allowed))
    assert set(chosen) <= allowed


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_pinned_ends_with_the_block_even_after_an_error():
    before = os.sched_getaffinity(0)
    found = []

    def fail() -> None:
        with pinned(1) as cores:
            found.append((set(cores), os.sched_getaffinity(0)))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert found[0][0] == found[0][1]
    assert len(found[0][0]) == 1
    assert os.sched_getaffinity(0) == before


def test_a_system_that_cannot_pin(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pinned(1) as cores:
        assert cores == []
