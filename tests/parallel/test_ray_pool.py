"""The pool of workers on a Ray cluster."""

from __future__ import annotations

import pytest

from yoloqat.errors import CheckFailedError, DataError
from yoloqat.parallel.ray_pool import LOCAL, ray_pool


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_results_and_errors_come_back_whole() -> None:
    pytest.importorskip("ray")

    def squared(number: int) -> int:
        if number == 13:
            raise DataError("number 13", expected="another", hint="leave it out")
        if number == 14:
            raise ValueError("no idea 14")
        return number * number

    with ray_pool(squared, LOCAL, 1, cores=1) as pool:

        def call(number: int) -> list[tuple[tuple[int, ...], int]]:
            pool.submit(number)
            assert not pool.idle
            found: list[tuple[tuple[int, ...], int]] = []
            while not pool.idle:
                found += pool.results(1.0)
            return found

        assert call(3) == [((3,), 9)]
        with pytest.raises(DataError, match=r"^number 13; expected another; leave it out$") as caught:
            call(13)
        assert type(caught.value) is DataError
        with pytest.raises(CheckFailedError, match=r"the Ray cluster gave a task up \(.*no idea 14\)"):
            call(14)
        assert call(4) == [((4,), 16)]
