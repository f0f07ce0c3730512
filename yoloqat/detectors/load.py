"""Model files to detectors."""

from __future__ import annotations

from pathlib import Path

from yoloqat.detectors.anchor import is_original, load_anchor
from yoloqat.detectors.checkpoint import load_checkpoint
from yoloqat.detectors.detector import Detector
from yoloqat.detectors.named import fetch_named, is_named
from yoloqat.detectors.ultralytics import load_ultralytics
from yoloqat.errors import ModelError


def load_detector(path: Path) -> Detector:
    """Load a detector that runs in torch.

    Args:
        path: A ``.pt`` of Ultralytics or of the original YOLOv5 and YOLOv7, or a yoloqat ``.safetensors`` checkpoint. The
            bare name of weights that Ultralytics offers, such as ``yolov8n.pt``, is fetched into the current directory
            where no such file exists.

    Raises:
        ModelError: The file does not exist, is of another kind, or cannot be fetched or loaded.
    """
    if is_named(path):
        path = fetch_named(path.name)
    if not path.is_file():
        told = "is a directory" if path.is_dir() else "does not exist"
        raise ModelError(f"model '{path}' {told}", expected="a .pt or .safetensors file", hint="check the path")
    if path.suffix == ".pt":
        return load_anchor(path) if is_original(path) else load_ultralytics(path)
    if path.suffix == ".safetensors":
        return load_checkpoint(path)
    raise ModelError(
        f"model '{path}' ends in '{path.suffix}'", expected="a .pt or .safetensors file", hint="pass one of these"
    )
