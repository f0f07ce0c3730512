"""TensorRT and CUDA from Python, imported on use and only here."""

from __future__ import annotations

import importlib
import re
from typing import Any

from yoloqat.errors import DependencyError

MINIMUM = (10, 12)
_INSTALL = "pip install tensorrt-cu13 (or tensorrt-cu12, by the driver's CUDA) on the machine with the GPU"


def version_of(tensorrt: Any) -> tuple[int, int]:
    """Return major and minor of a `tensorrt` module."""
    found = re.match(r"(\d+)\.(\d+)", str(getattr(tensorrt, "__version__", "")))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def load_tensorrt() -> Any:
    """Import TensorRT.

    Returns:
        The module ``tensorrt``, 10.12 or later: 11 has nothing but strongly typed networks, and from 10.12 on its older
        ways are deprecated, so that one way of building serves both.

    Raises:
        DependencyError: It is absent, cannot find its libraries, or is too old.
    """
    try:
        tensorrt = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:  # a wheel without its libraries fails as either
        raise DependencyError(
            f"TensorRT cannot be imported ({error})", expected="the package tensorrt and its libraries", hint=_INSTALL
        ) from error
    return checked_tensorrt(tensorrt)


def checked_tensorrt(tensorrt: Any) -> Any:
    """Return ``tensorrt`` itself, having checked that it is not too old.

    Raises:
        DependencyError: It is.
    """
    if version_of(tensorrt) < MINIMUM:  # a folder that happens to have the name has no version at all
        raise DependencyError(
            f"TensorRT is {getattr(tensorrt, '__version__', f'no package but {tensorrt}')}",
            expected=f"{'.'.join(map(str, MINIMUM))} or later",
            hint=f"{_INSTALL} in its place",
        )
    return tensorrt


def load_cuda() -> Any:
    """Import CUDA's runtime from Python.

    Returns:
        The module ``cuda.bindings.runtime``.

    Raises:
        DependencyError: It is absent.
    """
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise DependencyError(
            f"CUDA's Python bindings cannot be imported ({error})",
            expected="the package cuda-bindings, of the driver's CUDA major or an earlier one",
            hint="pip install cuda-bindings (12.9 for CUDA 12) on the machine with the GPU",
        ) from error
