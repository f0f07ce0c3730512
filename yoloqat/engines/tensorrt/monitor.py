"""TensorRT's progress on our progress."""

from __future__ import annotations

import threading
from typing import Any

from yoloqat.progress import Progress, note

STEP = "TensorRT"


def make_monitor(trt: Any, progress: Progress) -> Any:
    """Return an `IProgressMonitor` that tells of the outermost phases and notes the inner ones beside them.

    TensorRT cannot pass a Python exception on; so an interrupt, or any other, is kept in ``stopped_by`` and the build is
    asked to stop, for the caller to raise it again.

    Args:
        trt: The module ``tensorrt``.
        progress: Told after every step.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc] # the base is known only when TensorRT is
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.stopped_by: BaseException | None = None
            self._lock = threading.Lock()  # phases may run in threads of TensorRT's own
            self._totals: dict[str, int] = {}
            self._outer: str | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                if not parent_phase:
                    self._outer, self._totals[phase_name] = phase_name, max(1, num_steps)
                self._tell(lambda: self._started(phase_name))

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                total = self._totals.get(phase_name)
                if total is not None:
                    self._tell(lambda: progress(f"{STEP}: {phase_name}", min(step + 1, total), total))
                return self.stopped_by is None

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                total = self._totals.pop(phase_name, None)
                if total is not None:
                    self._tell(lambda: progress(f"{STEP}: {phase_name}", total, total))

        def _started(self, phase: str) -> None:
            if phase == self._outer:
                progress(f"{STEP}: {phase}", 0, self._totals[phase])
            elif self._outer is not None:
                note(progress, f"{STEP}: {self._outer}", phase)

        def _tell(self, tell: Any) -> None:
            try:
                tell()
            except BaseException as error:  # kept for the caller: an exception would be lost in TensorRT
                self.stopped_by = self.stopped_by or error

    return Monitor()
