"""What to type where only TensorRT's own command line is at hand."""

from __future__ import annotations

import shlex
from pathlib import Path

from yoloqat.engines.tensorrt.options import TensorRTOptions
from yoloqat.engines.tensorrt.profile import InputProfile

MAJORS = (10, 11)
_MIB = 1024**2


def _shapes(profile: InputProfile) -> list[str]:
    ends = (("min", profile.low), ("opt", profile.usual), ("max", profile.high))
    return [f"--{end}Shapes={profile.name}:{'x'.join(map(str, shape))}" for end, shape in ends]


def trtexec_line(
    onnx_path: Path, plan_path: Path, profile: InputProfile, options: TensorRTOptions, *, major: int
) -> str:
    """Return the `trtexec` line that builds the same engine, as a bare plan without Ultralytics' header.

    TensorRT 11 knows no other networks than strongly typed ones; 10 must be told.

    Args:
        onnx_path: The file to build from.
        plan_path: The plan to write.
        profile: The shapes.
        options: The settings.
        major: Major version of TensorRT, 10 or 11.
    """
    words = ["trtexec", f"--onnx={onnx_path}", f"--saveEngine={plan_path}"]
    words += ["--stronglyTyped"] if major < 11 else []
    words += _shapes(profile) if profile.dynamic else []
    words += [f"--builderOptimizationLevel={options.optimization_level}", "--profilingVerbosity=detailed"]
    if options.workspace_bytes is not None:
        words.append(f"--memPoolSize=workspace:{max(1, options.workspace_bytes // _MIB)}")
    if options.timing_cache is not None:
        words.append(f"--timingCacheFile={options.timing_cache}")
    if options.dla is not None:
        words += [f"--useDLACore={options.dla}", "--allowGPUFallback"]
    words += ["--versionCompatible"] if options.version_compatible else []
    words += ["--hardwareCompatibilityLevel=ampere+"] if options.hardware_compatible else []
    return shlex.join([*words, "--skipInference"])


def trtexec_lines(onnx_path: Path, plan_path: Path, profile: InputProfile, options: TensorRTOptions) -> dict[str, str]:
    """Return the line of each major version of TensorRT, by ``"10"`` and ``"11"``."""
    return {str(major): trtexec_line(onnx_path, plan_path, profile, options, major=major) for major in MAJORS}
