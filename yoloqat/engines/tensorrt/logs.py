"""What TensorRT says while it works, kept to explain what went wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_KEPT = 400
_CAUSES = (
    (
        r"out of memory|outofmemory|cudamalloc|allocat\w* fail|could not be allocated",
        "free memory on the GPU, or lower `workspace_gib` or the greatest batch",
    ),
    (
        r"could not find any implementation|insufficient workspace|no implementation",
        "raise `workspace_gib` or `optimization_level`",
    ),
    (
        r"no cuda-capable device|cuda initialization|insufficient driver|cuda driver",
        "check that `nvidia-smi` shows the GPU",
    ),
    (r"version|serializ\w+ engine .*mismatch|compiled for|compute capability", "build the engine on this machine anew"),
    (r"optimization profile|profile dimension|dynamic", "set `TensorRTOptions.batch` or `TensorRTOptions.imgsz`"),
    (r"dla", "build without `dla`"),
    (r"\btype|strongly", "export the model again; in a strongly typed network every type comes from the file"),
)


def make_recorder(trt: Any) -> Any:
    """Return an `ILogger` that keeps errors and warnings.

    Args:
        trt: The module ``tensorrt``.

    Returns:
        A logger with the lists ``errors`` and ``warnings`` of the last lines.
    """

    class Recorder(trt.ILogger):  # type: ignore[misc] # the base is known only when TensorRT is
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                _keep(self.errors, msg)
            elif severity == trt.ILogger.WARNING:
                _keep(self.warnings, msg)

    return Recorder()


def _keep(lines: list[str], line: str) -> None:
    lines.append(" ".join(line.split()))
    del lines[:-_KEPT]


def said(recorder: Any) -> str:
    """Return the last errors as one line, or that there are none."""
    return " | ".join(recorder.errors[-3:]) or "TensorRT gave no reason"


def hint_of(lines: Sequence[str]) -> str:
    """Return what to do about errors that TensorRT logged, by the first cause that the last of them names."""
    for line in reversed(lines):
        hint = next((hint for pattern, hint in _CAUSES if re.search(pattern, line, re.IGNORECASE)), None)
        if hint is not None:
            return hint
    return "run the trtexec line with --verbose to see more"
