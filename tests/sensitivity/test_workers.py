"""Several processes, a cluster, and processes that are killed: the same results, and nothing done twice."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from tiny_detector import IMGSZ

from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig
from yoloqat.datasets import calibration_images
from yoloqat.detectors import load_detector
from yoloqat.errors import ConfigError, DataError, DependencyError
from yoloqat.parallel.pool import opened_pool
from yoloqat.pipeline.compare import compare_methods
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.tables import comparison_tables
from yoloqat.sensitivity.settings import ScanConfig
from yoloqat.sensitivity.study import Study
from yoloqat.sensitivity.workers import Job, work, work_of

ONE_THREAD = {"device": "cpu", "threads": 1}


class Watcher:
    """Keeps the lines that it is told."""

    def __init__(self):
        self.lines = []

    def __call__(self, step, done, total):
        pass

    def tell(self, text):
        self.lines.append(text)


@pytest.fixture
def job(tiny_checkpoint, dataset, tmp_path):
    config, scan = EvalConfig(imgsz=IMGSZ, batch=1), ScanConfig(granularity="block")
    return Job(tiny_checkpoint, dataset, config, scan, tmp_path / "study.db", {"threads": 1}, "cpu")


@pytest.fixture
def scanner(job):
    return job.scanner()


@pytest.fixture
def study(job, scanner):
    study = Study(job.study, job.inputs)
    study.want(scanner.names, range(len(scanner.batches)))
    yield study
    study.close()


@pytest.fixture
def expected(job, scanner, tmp_path):
    """What one process finds, alone."""
    study = Study(tmp_path / "alone.db", {})
    study.want(scanner.names, range(len(scanner.batches)))
    work(study, scanner)
    found = contents(study, scanner)
    study.close()
    return found


@pytest.fixture
def imported_once(monkeypatch):
    """Workers begin as copies of a process that has imported everything; two processes show that fresh ones do as well."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["yoloqat.sensitivity.workers", "ultralytics.nn.tasks"])
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: context)


def contents(study, scanner):
    return {
        (name, batch): (result.matches, result.head_error, result.changed, result.detections)
        for name in scanner.names
        for batch, result in study.results(name).items()
    }


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_one_process_does_everything_once(study, scanner, expected):
    told = []
    work(study, scanner, progress=lambda *state: told.append(state))
    assert contents(study, scanner) == expected
    assert study.claims() == study.counts()[1] == 100
    assert told[-1] == ("sensitivity", 100, 100)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


@pytest.mark.slow
def test_two_processes_find_the_same_and_do_nothing_twice(job, study, scanner, expected):
    with opened_pool(2, None, **ONE_THREAD) as pool:
        work_of(job, pool, study)()
    assert contents(study, scanner) == expected
    assert study.claims() == 100


@pytest.mark.slow
@pytest.mark.usefixtures("imported_once")
def test_a_killed_worker_is_replaced_and_its_pieces_are_done_again(job, study, scanner, expected):
    killed, told = [], Watcher()

    def kill_one(step, done, total):
        if done > 3 and not killed:
            killed.append(multiprocessing.active_children()[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    with opened_pool(1, None, **ONE_THREAD, progress=told) as pool:
        work_of(job, pool, study, kill_one)()
    assert told.lines[0].startswith("worker 0 was lost and is started anew")
    assert contents(study, scanner) == expected
    assert study.claims() == 100


@pytest.mark.slow
def test_a_killed_scan_goes_on_where_it_was(job, study, scanner, expected, tmp_path):
    code = (
        "import pickle, sys; from pathlib import Path; from yoloqat.detectors import torch_threads\n"
        "from yoloqat.sensitivity.workers import work; from yoloqat.sensitivity.study import Study\n"
        "job = pickle.loads(Path(sys.argv[1]).read_bytes()); scanner = job.scanner()\n"
        "with torch_threads(1): work(Study(job.study, job.inputs), scanner)\n"
    )
    import pickle

    (tmp_path / "job").write_bytes(pickle.dumps(job))
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "job")])
    try:
        wait_for(lambda: study.counts()[0] > 12)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    kept = study.counts()[0]
    assert 12 < kept < 100
    before = contents(study, scanner)
    done = []
    work(study, scanner, progress=lambda _, number, __: done.append(number))
    after = contents(study, scanner)
    assert after == expected
    assert {key: after[key] for key in before} == before
    assert done[0] == kept  # nothing that was finished was begun again


@pytest.mark.usefixtures("imported_once")
def test_a_workers_error_is_told_here(job, study, dataset, tmp_path):
    missing = replace(dataset.images[0], path=tmp_path / "gone.png")
    broken = replace(job, dataset=replace(dataset, images=(missing, *dataset.images[1:])))
    with opened_pool(1, None, **ONE_THREAD) as pool, pytest.raises(DataError, match=r"gone\.png"):
        work_of(broken, pool, study)()


def test_without_ray_the_hint_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError, match="package 'ray' is not installed"), opened_pool(1, "local", **ONE_THREAD):
        pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_cluster_of_two_workers_finds_the_same_and_replaces_a_lost_one(
    job, study, scanner, expected, tiny_model, tiny_data, tmp_path
):
    ray = pytest.importorskip("ray")

    def compared(out, pool=None):
        run = Run(tmp_path / out, torch.device("cpu"), 1, pool=pool)
        records = calibration_images(tiny_data.train, 4)
        settings = {"quant": QuantConfig(), "calibration": CalibrationConfig(images=4)}
        ptq = Ptq(load_detector(tiny_model), records, **settings, imgsz=IMGSZ, batch=2, run=run)
        methods = [MethodSpec("max"), MethodSpec("percentile", 99.0)]
        found = compare_methods(ptq, job.dataset, methods, EvalConfig(imgsz=IMGSZ, batch=2, conf=0.03), run=run)
        return comparison_tables("tiny", found)[0].rows, [row["metrics"] for row in found["methods"]]

    lost = []

    def lose_one(step, done, total):
        if done > 20 and not lost:
            lost.append(done)
            ray.kill(pool._pool.workers[0], no_restart=False)

    with opened_pool(2, "local", **ONE_THREAD) as pool:
        work_of(job, pool, study, lose_one)()
        assert compared("shared", pool) == compared("alone")
    assert lost
    assert contents(study, scanner) == expected
    assert study.claims() == 100


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_is_not_there_is_told():
    pytest.importorskip("ray")
    with (
        pytest.raises(ConfigError, match=r"Ray address is '127\.0\.0\.1:1'"),
        opened_pool(1, "127.0.0.1:1", **ONE_THREAD),
    ):
        pass
