"""Local workers that are handed call after call, and what becomes of the call of one that is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from yoloqat.errors import CheckFailedError, ConfigError, DataError
from yoloqat.parallel import processes as processes_module
from yoloqat.parallel.local_pool import local_pool
from yoloqat.parallel.pool import UNKNOWN, Doer, Pool, check_workers


@dataclass
class Call:
    """Stands in for the doer of a worker, without torch."""

    folder: Path

    def __call__(self, number: int, key: str, pickled: bytes | None, piece: int) -> Any:
        del number, key
        if pickled is None:
            return UNKNOWN
        if piece == 13:
            raise DataError(f"piece {piece}", expected="another", hint="leave it out")
        if piece == 14:
            raise ValueError(f"no idea {piece}")
        if piece == 15 and not (self.folder / "killed").exists():
            (self.folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return piece * piece


class Watcher:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, step: str, done: int, total: int) -> None:
        raise AssertionError(step)

    def tell(self, text: str) -> None:
        self.lines.append(text)


def test_every_piece_is_done_once_also_where_a_worker_is_lost_and_errors_come_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes_module, "RESTARTS", 1)
    told = Watcher()
    with local_pool([Call(tmp_path)] * 2, hint="look", progress=told) as workers:
        pool = Pool(workers, 2)
        assert sorted(pool.mapped("job", [3, 1, 2])) == [(1, 1), (2, 4), (3, 9)]
        assert sorted(pool.mapped("job", range(9, 16, 6))) == [(9, 81), (15, 225)]
        assert [line.partition(" ")[2].partition(" ")[2] for line in told.lines] == [
            "was lost and is started anew; what it was doing is done again"
        ]
        broken_off = pool.mapped("job", [4, 5, 6])
        assert next(broken_off)[0] in (4, 5)
        broken_off.close()
        assert sorted(pool.mapped("job", [7, 8])) == [(7, 49), (8, 64)]
        with pytest.raises(CheckFailedError, match=r"worker \d ended with code 1; .*; look") as caught:
            list(pool.mapped("job", [14]))
        assert "no idea 14" in str(caught.value.__cause__)
    with (
        local_pool([Call(tmp_path)], hint="look") as workers,
        pytest.raises(DataError, match=r"^piece 13; expected another; leave it out$"),
    ):
        list(Pool(workers, 1).mapped("job", [1, 13]))


@dataclass
class Numbered:
    number: int

    def begin(self, device: str) -> Callable[[int], tuple[str, int, int]]:
        return lambda piece: (device, self.number, piece)


def test_a_worker_begins_a_job_once_and_asks_for_one_that_it_does_not_have() -> None:
    import pickle

    import torch

    doer, jobs = Doer("cpu", torch.get_num_threads()), [pickle.dumps(Numbered(number)) for number in (1, 2)]
    assert doer(0, "first", None, 5) == UNKNOWN
    assert doer(0, "first", jobs[0], 5) == ("cpu", 1, 5)
    assert doer(1, "first", None, 6) == ("cpu", 1, 6)
    assert doer(2, "second", None, 6) == UNKNOWN
    assert doer(2, "second", jobs[1], 6) == ("cpu", 2, 6)
    assert doer(3, "first", None, 6) == UNKNOWN


def test_workers_must_fit_the_machine() -> None:
    check_workers(2, device="cpu", threads=1, cores=2, devices=0)
    with pytest.raises(ConfigError, match="2 workers of 2 threads each want 4 cores; expected at most the 2 cores"):
        check_workers(2, device="cpu", threads=2, cores=2, devices=0)
    with pytest.raises(ConfigError, match="3 workers want a CUDA device each; expected at most the 2 devices"):
        check_workers(3, device="cuda:0", threads=9, cores=2, devices=2)
