"""The machine and the packages that a number was measured with."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "torch",
    "torchvision",
    "ultralytics",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "pycocotools",
    "opencv-python",
    "opencv-python-headless",
)


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Return the processor's model name; `platform.processor()` is empty or just the architecture on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def environment(*, device: str, threads: int, seed: int | None = None) -> dict[str, Any]:
    """Return versions, machine, device, thread count and seed as a JSON-able dict.

    Args:
        device: The device a result was measured on, ``"cpu"`` or a CUDA index.
        threads: Threads used inside one operator.
        seed: The seed that chose the calibration images, where one did.

    Returns:
        Keys ``yoloqat``, ``python``, ``platform``, ``processor``, ``cores``, ``device``, ``threads``, ``seed`` and
        ``packages`` (name to version; packages that are not installed are left out).
    """
    versions = {package: _installed(package) for package in _PACKAGES}
    return {
        "yoloqat": _installed("yoloqat"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": device,
        "threads": threads,
        "seed": seed,
        "packages": {package: version for package, version in versions.items() if version is not None},
    }
