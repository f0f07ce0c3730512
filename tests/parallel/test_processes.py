"""The pool of local workers, and how their errors get here."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from yoloqat.errors import CheckFailedError, DataError, ModelError
from yoloqat.parallel import processes as processes_module
from yoloqat.parallel.processes import Parent, ProcessPool, Report, Worker, raise_cause


def steps(parent: Parent, count: int) -> None:
    for number in range(count):
        parent.progress("step", number + 1, count)


def fail(parent: Parent, error: Exception) -> None:
    assert parent.alive()
    raise error


def sleep(parent: Parent, path: str) -> None:
    try:
        time.sleep(60)
    finally:
        Path(path).touch()


def test_progress_comes_from_every_worker_and_all_end() -> None:
    told: list[tuple[str, int, int]] = []
    with ProcessPool(hint="look") as pool:
        pool.start(partial(steps, count=2))
        pool.start(partial(steps, count=1))
        pool.join(lambda *state: told.append(state))
    assert sorted(told) == [("step", 1, 1), ("step", 1, 2), ("step", 2, 2)]
    assert [worker.process.exitcode for worker in pool.workers] == [0, 0]


def test_errors_of_ours_come_whole_and_others_with_their_traceback() -> None:
    with ProcessPool(hint="look") as pool:
        pool.start(partial(fail, error=DataError("image 'a'", expected="an image", hint="remove it")))
        with pytest.raises(DataError, match=r"^image 'a'; expected an image; remove it$"):
            pool.join()
    with ProcessPool(hint="look") as pool:
        pool.start(partial(fail, error=ValueError("no idea 7")))
        with pytest.raises(RuntimeError, match=r"(?s)Traceback.*in fail.*ValueError: no idea 7"):
            pool.join()


def test_a_worker_that_keeps_failing_is_given_up_and_its_traceback_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes_module, "RESTARTS", 1)
    with ProcessPool(hint="look") as pool:
        pool.start(partial(fail, error=ValueError("no idea 8")))
        first = pool.workers[0].process.pid
        pool.workers[0].process.join()
        pool.check()
        assert pool.workers[0].process.pid != first
        pool.workers[0].process.join()
        with pytest.raises(CheckFailedError, match=r"worker 0 ended with code 1; .*; look") as caught:
            pool.check()
    assert "no idea 8" in str(caught.value.__cause__)


def test_workers_are_ended_in_order_or_by_force(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "unwound"
    with ProcessPool(hint="look") as pool:
        pool.start(partial(sleep, path=str(path)))
        time.sleep(2.0)
    assert pool.workers[0].process.exitcode in (0, -signal.SIGTERM)  # the latter before its handler was set
    assert path.exists() or pool.workers[0].process.exitcode
    monkeypatch.setattr(processes_module, "STOP_SECONDS", 0.0)
    with ProcessPool(hint="look") as pool:
        pool.start(partial(sleep, path=str(path)))
        os.kill(pool.workers[0].process.pid or 0, signal.SIGSTOP)
    assert pool.workers[0].process.exitcode == -signal.SIGKILL


def worker(code: int | None, report: Report | None) -> Worker:
    return Worker(steps, SimpleNamespace(exitcode=code), None, report)  # type: ignore[arg-type]


def test_the_first_cause_is_raised() -> None:
    lost = Report(2.0, defect="RuntimeError: connection closed by peer")
    found = Report(3.0, error=ModelError("the loss became nan", expected="a finite loss", hint="lower it"))
    with pytest.raises(CheckFailedError, match=r"process 1 of 2 ended with code -9; .*; look"):
        raise_cause([worker(0, lost), worker(-9, None)], hint="look")
    with pytest.raises(ModelError, match="the loss became nan; expected a finite loss; lower it"):
        raise_cause([worker(0, lost), worker(0, found)], hint="look")
    with pytest.raises(RuntimeError, match="connection closed by peer"):
        raise_cause([worker(0, lost), worker(None, None)], hint="look")
