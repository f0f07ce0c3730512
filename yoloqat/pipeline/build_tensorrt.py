"""The TensorRT engine of an ONNX file; where TensorRT is not installed, the file and the line that builds it elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yoloqat.engines.tensorrt import TensorRTBuild, TensorRTOptions, build_tensorrt, load_tensorrt, plan_tensorrt
from yoloqat.errors import DependencyError
from yoloqat.pipeline.run import Run
from yoloqat.provenance import atomic_path

ONNX = "model.onnx"


def build_engine_file(
    onnx_path: Path,
    engine_path: Path,
    options: TensorRTOptions,
    *,
    run: Run,
    load: Callable[[], Any] = load_tensorrt,
) -> TensorRTBuild:
    """Build an engine beside the results.

    Args:
        onnx_path: The file.
        engine_path: The engine to write.
        options: How to build.
        run: The device, and who watches.
        load: Returns the module ``tensorrt``.

    Raises:
        DependencyError: TensorRT is not installed. The ONNX file then lies in the directory of the results, and the error
            tells the `trtexec` line that builds it on another machine.
        ModelError: The file cannot be read, or TensorRT cannot parse it.
        ConfigError: The settings do not fit the file.
        EngineError: A zero-point in the file is not 0, there is no GPU, or TensorRT builds no engine.
        OutputError: A file cannot be written.
    """
    plan_tensorrt(onnx_path, engine_path, options)  # mistakes that need no TensorRT to be found
    try:
        tensorrt = load()
    except DependencyError as error:
        kept = _left(onnx_path, engine_path.parent)
        lines = plan_tensorrt(kept, engine_path, options).trtexec
        told = ", ".join(f"with TensorRT {major} `{line}`" for major, line in lines.items())
        raise DependencyError(
            error.what, expected=error.expected, hint=f"{error.hint}, or take '{kept}' there and type {told}"
        ) from error
    device = run.device.index or 0 if run.device.type == "cuda" else 0
    return build_tensorrt(onnx_path, engine_path, options, progress=run.progress, device=device, tensorrt=tensorrt)


def _left(onnx_path: Path, directory: Path) -> Path:
    """Copy the file among the results, unless it lies there."""
    kept = directory / ONNX
    if onnx_path.resolve() != kept.resolve():
        with atomic_path(kept) as temporary:
            shutil.copyfile(onnx_path, temporary)
    return kept
