"""The TensorRT engine of an ONNX file; where TensorRT is not installed, the file and the line that builds it elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from yoloqat.engines.tensorrt import (
    TensorRTBuild,
    TensorRTOptions,
    build_tensorrt,
    load_tensorrt,
    plan_tensorrt,
    trtexec_lines,
)
from yoloqat.errors import DependencyError
from yoloqat.pipeline.build_half import with_half
from yoloqat.pipeline.run import Run
from yoloqat.provenance import atomic_path, write_text

ONNX, SCRIPT = "model.onnx", "build_engine.sh"


def build_engine_file(
    onnx_path: Path,
    engine_path: Path,
    options: TensorRTOptions,
    *,
    run: Run,
    load: Callable[[], Any] = load_tensorrt,
    half: bool = True,
) -> TensorRTBuild:
    """Build an engine beside the results.

    Args:
        onnx_path: The file.
        engine_path: The engine to write.
        options: How to build.
        run: The device, and who watches.
        load: Returns the module ``tensorrt``.
        half: Let what a QDQ file leaves in FP32 run in FP16, by a file beside the engine.

    Raises:
        DependencyError: TensorRT is not installed. The ONNX file then lies in the directory of the results, beside a script
            with the `trtexec` lines that build it on another machine.
        ModelError: The file cannot be read, or TensorRT cannot parse it.
        ConfigError: The settings do not fit the file.
        EngineError: A zero-point in the file is not 0, there is no GPU, or TensorRT builds no engine.
        OutputError: A file cannot be written.
    """
    plan_tensorrt(onnx_path, engine_path, options)  # mistakes that need no TensorRT to be found
    source = with_half(onnx_path, engine_path.parent) if half else onnx_path
    try:
        tensorrt = load()
    except DependencyError as error:
        kept = _left(source, onnx_path, engine_path.parent)
        script = engine_path.parent / SCRIPT
        profile, plan = plan_tensorrt(kept, engine_path, options).profile, Path(engine_path.stem).with_suffix(".plan")
        cache = None if options.timing_cache is None else Path(options.timing_cache.name)
        write_text(script, _script(trtexec_lines(Path(kept.name), plan, profile, replace(options, timing_cache=cache))))
        raise DependencyError(
            error.what,
            expected=error.expected,
            hint=f"{error.hint}, or take '{kept}' and '{script}' to the machine with the GPU and type: sh {SCRIPT}",
        ) from error
    device = run.device.index or 0 if run.device.type == "cuda" else 0
    return build_tensorrt(source, engine_path, options, progress=run.progress, device=device, tensorrt=tensorrt)


def _script(lines: Mapping[str, str]) -> str:
    """Return the shell script that builds the engine from the file beside it, by whichever TensorRT is there."""
    cases = "".join(f"  {major}*) {line} ;;\n" for major, line in lines.items())
    return (
        "#!/bin/sh\n# Builds the engine from the ONNX file beside this script; needs trtexec, which comes with TensorRT.\n"
        'set -e\ncd "$(dirname "$0")"\n'
        "# the first digits of e.g. [TensorRT v101600]\n"
        "version=$(trtexec --help 2>&1 | sed -n 's/.*TensorRT v\\([0-9][0-9]\\).*/\\1/p' | head -n 1)\n"
        f'case "$version" in\n{cases}'
        f'  *) echo "TensorRT $version; expected {" or ".join(lines)}" >&2; exit 1 ;;\nesac\n'
    )


def _left(source: Path, onnx_path: Path, directory: Path) -> Path:
    """Leave the file to build from among the results, under the name :data:`ONNX` unless the user's own file has it there."""
    kept = directory / ONNX
    if source != onnx_path:
        return source if onnx_path.resolve() == kept.resolve() else source.replace(kept)
    if onnx_path.resolve() != kept.resolve():
        with atomic_path(kept) as temporary:
            shutil.copyfile(onnx_path, temporary)
    return kept
