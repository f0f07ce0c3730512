"""A pool of workers on a Ray cluster. Ray is imported here alone, and only when a cluster is asked for."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from yoloqat.errors import CheckFailedError, ConfigError, DependencyError, YoloqatError

LOCAL = "local"
"""The address that starts a cluster on this machine."""

CONNECT_SECONDS = 10.0
"""How long the head of a cluster may take to answer."""


class _Actor:
    """Lives in a process of the cluster and calls there what the pool was given."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def call(self, *arguments: Any) -> Any:
        """Return what the function gives."""
        return self._function(*arguments)


class RayPool:
    """Workers of a cluster that all call one function, each with its own copy of it.

    A task whose worker is lost goes to another, or to one that Ray starts in its place.

    Args:
        ray: The module.
        function: What the workers call; pickled to get there.
        workers: How many.
        cores: That each takes.
        gpus: That each takes.

    Attributes:
        workers: The cluster's handles of the workers.
        idle: Those that have no task.
    """

    def __init__(self, ray: Any, function: Callable[..., Any], workers: int, *, cores: int, gpus: int) -> None:
        self._ray = ray
        kind = ray.remote(num_cpus=cores, num_gpus=gpus, max_restarts=-1, max_task_retries=-1)(_Actor)
        self._function = ray.put(function)  # held, because a worker that is started again asks for it
        self.workers = [kind.remote(self._function) for _ in range(workers)]
        self.idle = list(self.workers)
        self._running: dict[Any, tuple[Any, tuple[Any, ...]]] = {}

    def submit(self, *arguments: Any) -> None:
        """Let an idle worker call the function."""
        worker = self.idle.pop()
        self._running[worker.call.remote(*arguments)] = (worker, arguments)

    def results(self, seconds: float) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """Yield arguments and result of each task that is done, after waiting for one at most so long.

        Raises:
            YoloqatError: A worker met it.
            CheckFailedError: The cluster gave a task up.
        """
        ready, _ = self._ray.wait(list(self._running), timeout=seconds) if self._running else ([], [])
        for task in ready:
            worker, arguments = self._running.pop(task)
            self.idle.append(worker)
            yield arguments, self._result(task)

    def _result(self, task: Any) -> Any:
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, YoloqatError):
                raise cause from None
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise CheckFailedError(
                f"the Ray cluster gave a task up ({reason[-1][:200]})",
                expected="workers that can read the model and the images under the paths given here",
                hint="look at Ray's logs, or run without `ray`",
            ) from error


def _check_listening(address: str) -> None:
    """Raise OSError where nobody listens at a host and port, which Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


@contextmanager
def ray_pool(
    function: Callable[..., Any], address: str, workers: int, *, cores: int, gpus: int = 0
) -> Iterator[RayPool]:
    """Give the workers of a cluster until the context ends.

    Args:
        function: What the workers call; pickled to get there.
        address: As ``ray.init`` takes it, or :data:`LOCAL` for a cluster of its own on this machine.
        workers: How many.
        cores: That each takes.
        gpus: That each takes.

    Raises:
        DependencyError: Ray is not installed.
        ConfigError: There is no cluster at that address, or it has too few cores.
    """
    try:
        import ray
    except ImportError as error:
        raise DependencyError(
            f"package '{error.name}' is not installed",
            expected="Ray, which `ray` runs on",
            hint="pip install 'yoloqat[ray]'",
        ) from error
    settings: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == LOCAL:
            # Ray would let its workers give way to whatever else the machine does
            ray.init(num_cpus=workers * cores, _system_config={"worker_niceness": 0}, **settings)
        else:
            _check_listening(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"Ray address is '{address}' ({' '.join(str(error).split())[:200]})",
            expected="the address of a running cluster, 'auto' or 'local'",
            hint="start one with `ray start --head`, or write `ray=local`",
        ) from error
    try:
        available = int(ray.cluster_resources().get("CPU", 0))
        if available < workers * cores:
            raise ConfigError(
                f"{workers} workers of {cores} threads each want {workers * cores} cores of the Ray cluster",
                expected=f"at most its {available} cores",
                hint="set `workers` or `threads` lower",
            )
        yield RayPool(ray, function, workers, cores=cores, gpus=gpus)
    finally:
        ray.shutdown()
