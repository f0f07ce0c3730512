"""What is said of a build."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from yoloqat.engines.tensorrt.build import TensorRTBuild


def engine_results(build: TensorRTBuild) -> dict[str, Any]:
    """Return the result keys of a build: those of every engine, and TensorRT's own."""
    return build.layers.precision.results() | {
        "reformats": list(build.layers.reformats),
        "tensorrt": build.version,
        "trtexec": build.trtexec,
        "profile": asdict(build.profile),
        "from_timing_cache": build.from_timing_cache,
        "warnings": list(build.warnings),
    }
