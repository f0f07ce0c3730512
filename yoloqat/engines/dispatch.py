"""Which engine runs which file."""

from __future__ import annotations

from pathlib import Path

from yoloqat.engines.openvino import OpenVINOPredictor
from yoloqat.engines.ort import OnnxPredictor
from yoloqat.errors import ModelError
from yoloqat.predictor import Predictor


def open_engine(path: Path, *, threads: int = 1) -> Predictor:
    """Load an engine: ONNX Runtime for ``.onnx``, OpenVINO for a directory that holds ``model.xml``.

    Raises:
        ModelError: The path is missing or of another kind, or the engine cannot load it.
        ConfigError: ``threads`` is below 1.
    """
    path = Path(path)
    if path.is_dir() and (path / "model.xml").is_file():
        return OpenVINOPredictor(path, threads=threads)
    if path.suffix == ".onnx":
        return OnnxPredictor(path, threads=threads)
    raise ModelError(
        f"'{path}' is {'a directory without model.xml' if path.is_dir() else 'no engine file'}",
        expected="an .onnx file or an OpenVINO directory",
        mend="export or build the model first",
    )
