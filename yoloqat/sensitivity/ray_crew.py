"""The workers of a Ray cluster as the crew of a scan. Ray is imported here alone, and only when a cluster is asked for."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from yoloqat.detectors import torch_threads
from yoloqat.errors import CheckFailedError, ConfigError, DependencyError, YoloqatError
from yoloqat.progress import Progress, silent
from yoloqat.sensitivity.job import Job
from yoloqat.sensitivity.scan import STEP, WAIT_SECONDS, heartbeat
from yoloqat.sensitivity.scanner import Scanner
from yoloqat.sensitivity.study import Finding, Study

LOCAL = "local"
"""The address that starts a cluster on this machine."""

CONNECT_SECONDS = 10.0
"""How long the head of a cluster may take to answer."""

MOST_PIECES = 8
"""Pieces of one task: what is lost when the process that holds the study is killed, or begun anew when a worker is."""


class _Worker:
    """Lives in a process of the cluster and does tasks there."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._scanner: Scanner | None = None

    def scan(self, chunk: int, names: list[str]) -> list[tuple[str, Finding]] | tuple[Any, str, str, str]:
        """Return what each piece gave, or the parts of the error that was met: an exception of ours does not travel whole."""
        try:
            if self._scanner is None:
                device = "cuda" if self._job.device.startswith("cuda") and torch.cuda.is_available() else "cpu"
                self._scanner = self._job.scanner(device)
            with torch_threads(self._job.threads):
                return list(self._scanner.run(chunk, names))
        except YoloqatError as error:
            return type(error), error.what, error.expected, error.hint


class RayCrew:
    """Workers of a cluster; this process alone writes into the study.

    A task whose worker is lost goes to another, or to one that Ray starts in its place.

    Args:
        ray: The module.
        job: The scan.
        workers: How many.
        study: What is to be done.
        progress: Told of what is done.

    Attributes:
        workers: The cluster's handles of the workers.
    """

    def __init__(self, ray: Any, job: Job, workers: int, study: Study, progress: Progress = silent) -> None:
        self._ray, self._study, self._progress = ray, study, progress
        gpus = 1 if job.device.startswith("cuda") else 0
        kind = ray.remote(num_cpus=job.threads, num_gpus=gpus, max_restarts=-1, max_task_retries=-1)(_Worker)
        self._job = ray.put(job)  # held, because a worker that is started again asks for it
        self.workers = [kind.remote(self._job) for _ in range(workers)]
        self._idle = list(self.workers)

    def do(self) -> None:
        """Return when nothing on the list is left to do.

        Raises:
            YoloqatError: A worker met one.
            CheckFailedError: The cluster gave a task up.
        """
        running: dict[Any, tuple[Any, int]] = {}
        with heartbeat(self._study):
            while True:
                while self._idle:
                    claimed = self._study.claim(parties=len(self.workers), most=MOST_PIECES)
                    if claimed is None:
                        break
                    worker = self._idle.pop()
                    running[worker.scan.remote(*claimed)] = (worker, claimed[0])
                done, total = self._study.counts()
                self._progress(STEP, done, total)
                if done == total:
                    return
                ready, _ = self._ray.wait(list(running), timeout=WAIT_SECONDS) if running else ([], [])
                for task in ready:
                    worker, chunk = running.pop(task)
                    self._idle.append(worker)
                    self._keep(chunk, self._answer(task))

    def _answer(self, task: Any) -> list[tuple[str, Finding]]:
        try:
            answer = self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise CheckFailedError(
                f"the Ray cluster gave a task up ({reason[-1][:200]})",
                expected="workers that can read the model and the images under the paths given here",
                hint="look at Ray's logs, or scan without --ray",
            ) from error
        if isinstance(answer, tuple):
            kind, what, expected, hint = answer
            raise kind(what, expected=expected, hint=hint)
        found: list[tuple[str, Finding]] = answer
        return found

    def _keep(self, chunk: int, found: list[tuple[str, Finding]]) -> None:
        for name, finding in found:
            self._study.finish(name, chunk, finding)


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at a host and port, which Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


@contextmanager
def ray_crew(job: Job, address: str, workers: int, study: Study, progress: Progress = silent) -> Iterator[RayCrew]:
    """Give the workers of a cluster until the context ends.

    Args:
        job: The scan; its paths must be readable on every machine of the cluster.
        address: As ``ray.init`` takes it, or :data:`LOCAL` for a cluster of its own on this machine.
        workers: How many; each takes as many cores as the scan has threads.
        study: What is to be done.
        progress: Told of what is done.

    Raises:
        DependencyError: Ray is not installed.
        ConfigError: There is no cluster at that address, or it has too few cores.
    """
    try:
        import ray
    except ImportError as error:
        raise DependencyError(
            f"package '{error.name}' is not installed", expected="Ray for --ray", hint="pip install 'yoloqat[ray]'"
        ) from error
    settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == LOCAL:
            # Ray would let its workers give way to whatever else the machine does
            ray.init(num_cpus=workers * job.threads, _system_config={"worker_niceness": 0}, **settings)
        else:
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"Ray address is '{address}' ({' '.join(str(error).split())[:200]})",
            expected="the address of a running cluster, 'auto' or 'local'",
            hint="start one with `ray start --head`, or write --ray local",
        ) from error
    try:
        cores = int(ray.cluster_resources().get("CPU", 0))
        if cores < workers * job.threads:
            raise ConfigError(
                f"{workers} workers of {job.threads} threads each want {workers * job.threads} cores of the Ray cluster",
                expected=f"at most its {cores} cores",
                hint="set --workers or --threads lower",
            )
        yield RayCrew(ray, job, workers, study, progress)
    finally:
        ray.shutdown()
