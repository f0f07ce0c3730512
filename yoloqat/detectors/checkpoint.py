"""A quantized detector as one safetensors file: tensors, and JSON metadata that rebuilds the module. No pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from yoloqat.config import to_dict
from yoloqat.detectors import anchor, ultralytics
from yoloqat.detectors.description import check_tensors, read_description
from yoloqat.detectors.detector import Detector, apply_quantization
from yoloqat.errors import ModelError
from yoloqat.metadata import unfit
from yoloqat.provenance import atomic_path
from yoloqat.quant import check_ranges

SCHEMA = "yoloqat/checkpoint"
VERSION = 2
_KEY = "yoloqat"
_FAMILIES = {ultralytics.FAMILY: ultralytics} | dict.fromkeys(anchor.FAMILIES, anchor)


def family_of(name: str) -> Any:
    """Return the module that rebuilds the detectors of a family by its ``build`` and ``detector_from_module``."""
    return _FAMILIES[name]


def save_checkpoint(detector: Detector, path: Path) -> None:
    """Write a detector to ``path``, whole or not at all.

    Args:
        detector: A quantized (or float) detector.
        path: The ``.safetensors`` file.

    Raises:
        ModelError: The module cannot be rebuilt from its own architecture description.
        OutputError: The file cannot be written.
    """
    detector.check_rebuildable()
    quantization = detector.quantization
    description = {
        "schema": SCHEMA,
        "version": VERSION,
        "family": detector.family,
        "architecture": detector.architecture,
        "names": {str(index): name for index, name in detector.info.names.items()},
        "stride": detector.info.stride,
        "task": detector.info.task,
        "imgsz": detector.imgsz,
        "source": {"path": detector.source.path, "sha256": detector.source.sha256},
        "quantization": None
        if quantization is None
        else {
            "config": to_dict(quantization.config),
            "layers": list(quantization.layers),
            "placement": quantization.placement.to_dict(),
            "calibration": quantization.calibration,
        },
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in detector.module.state_dict().items()}
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={_KEY: json.dumps(description)})
        except SafetensorError as error:
            raise OSError(None, f"{error}") from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    hint = "pass a file that `yoloqat calibrate` wrote"
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError) as error:
        raise ModelError(f"'{path}' cannot be loaded ({error})", expected="a yoloqat checkpoint", hint=hint) from error
    try:
        data = json.loads(text or "{}")
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise ModelError(f"'{path}' has damaged metadata", expected="a JSON object", hint=hint)
    found = (data.get("schema"), data.get("version"))
    if found != (SCHEMA, VERSION):
        raise ModelError(
            f"'{path}' has the schema and version {found!r:.120}", expected=f"{(SCHEMA, VERSION)}", hint=hint
        )
    family = data.get("family")
    if not isinstance(family, str) or family not in _FAMILIES:
        raise unfit(str(path), "family", family, expected=f"one of {', '.join(_FAMILIES)}", hint=hint)
    return data, tensors


def load_checkpoint(path: Path) -> Detector:
    """Load a checkpoint that :func:`save_checkpoint` wrote.

    Raises:
        ModelError: The file is no yoloqat checkpoint, or its tensors do not fit its architecture.
        CalibrationError: The range of a quantizer is missing, NaN, infinite or on the wrong side of 0.
    """
    data, tensors = _read(path)
    described = read_description(str(path), data)
    family = family_of(data["family"])
    detector: Detector = family.detector_from_module(
        family.build(described.architecture),
        described.architecture,
        described.source,
        names=described.names,
        imgsz=described.imgsz,
    )
    if described.quantization is not None:
        apply_quantization(detector, described.quantization)
    check_tensors(str(path), tensors, detector.module)
    try:
        detector.module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(
            f"the tensors of '{path}' do not fit its architecture ({' '.join(str(error).split())[:300]})",
            expected="the tensors of the same Ultralytics version",
            hint=f"calibrate '{described.source.path:.200}' again",
        ) from error
    stored = described.quantization
    check_ranges(detector.module, f"'{path}'", calibrated=stored is not None and bool(stored.calibration))
    return detector
