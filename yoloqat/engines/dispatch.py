"""Which engine runs which file."""

from __future__ import annotations

from pathlib import Path

from yoloqat.engines.openvino_files import is_directory
from yoloqat.engines.openvino_runtime import Hint, OpenVINOPredictor
from yoloqat.engines.ort import OnnxPredictor
from yoloqat.engines.tensorrt import TensorRTPredictor
from yoloqat.errors import ModelError
from yoloqat.predictor import Predictor


def cuda_index(device: str) -> int:
    """Return the CUDA index of a device's name, 0 for the CPU's, on which TensorRT cannot run."""
    index = device.removeprefix("cuda:")
    return int(index) if index.isdecimal() else 0


def open_engine(
    path: Path, *, threads: int = 1, device: str = "cpu", hint: Hint = "latency", cache_dir: Path | None = None
) -> Predictor:
    """Load an engine: ONNX Runtime for ``.onnx``, TensorRT for ``.engine``, OpenVINO for a directory.

    Args:
        path: The file or directory.
        threads: Threads of an engine that runs on the CPU.
        device: ``"cpu"`` or a CUDA index; OpenVINO runs on the CPU whatever it says, and TensorRT on
            the first GPU unless it says another.
        hint: What OpenVINO compiles for.
        cache_dir: Where OpenVINO keeps compiled models, None for nowhere.

    Raises:
        ModelError: The path is missing or of another kind, or the engine cannot load it.
        ConfigError: ``threads`` is below 1.
        DependencyError: ONNX Runtime has no provider for the device, or TensorRT is not installed.
        EngineError: The engine does not start.
    """
    path = Path(path)
    if is_directory(path):
        return OpenVINOPredictor(path, threads=threads, hint=hint, cache_dir=cache_dir)
    if path.suffix == ".onnx":
        return OnnxPredictor(path, threads=threads, device=device)
    if path.suffix == ".engine":
        return TensorRTPredictor(path, device=cuda_index(device))
    raise ModelError(
        f"'{path}' is {'no OpenVINO directory' if path.is_dir() else 'no engine file'}",
        expected="an .onnx file, a TensorRT .engine or an OpenVINO directory",
        hint="export or build the model first",
    )
