"""Checks of a checkpoint before a detector is built from it, because files come from strangers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from yoloqat.config import QuantConfig, from_dict
from yoloqat.config.sizes import ImageSize
from yoloqat.detectors.detector import Quantization, Source
from yoloqat.errors import ModelError, YoloqatError
from yoloqat.metadata import (
    MAX_CHANNELS,
    MAX_SIDE,
    TASKS,
    checked_names,
    checked_sides,
    checked_whole,
    unfit,
    writable,
)
from yoloqat.quant import quantized_layers, quantizers
from yoloqat.quant.graph import PlacementPlan

HINT = "calibrate the float model again"
REQUIRED = ("family", "architecture", "names", "imgsz", "source", "quantization")
_ENDS = ("_amax", "_low")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Description:
    """Checked metadata of a checkpoint.

    Attributes:
        architecture: What the family builds the module from; the entries that all families have are checked, what describes
            the layers is the family's to check.
        names: Class index to class name.
        imgsz: Size it was trained at.
        source: File of the float weights.
        quantization: Quantized layers and settings, or None.
    """

    architecture: dict[str, Any]
    names: dict[int, str]
    imgsz: ImageSize
    source: Source
    quantization: Quantization | None


def read_description(path: str, data: Mapping[str, Any]) -> Description:
    """Check the metadata of a checkpoint whose schema, version and family are known.

    Args:
        path: The file, named in errors.
        data: The metadata.

    Raises:
        ModelError: An entry is missing, of another type or out of range.
    """
    missing = [key for key in REQUIRED if key not in data]
    if missing:
        raise ModelError(
            f"the metadata of '{path}' lacks {', '.join(missing)}", expected="those of a checkpoint", hint=HINT
        )
    names = checked_names(path, data["names"], hint=HINT)
    height, width = checked_sides(path, data["imgsz"], hint=HINT)
    return Description(
        _architecture(path, data, classes=len(names)),
        names,
        height if height == width else (height, width),
        Source(**_texts(path, "source", data["source"], ("path", "sha256"))),
        None if data["quantization"] is None else _quantization(path, data["quantization"]),
    )


def _dict(path: str, key: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise unfit(path, key, value, expected="a JSON object", hint=HINT)
    return value


def _texts(path: str, key: str, value: object, wanted: tuple[str, ...]) -> dict[str, str]:
    found = _dict(path, key, value)
    for name in wanted:
        text = found.get(name)
        if not isinstance(text, str) or not writable(text):
            raise unfit(path, f"{key}.{name}", text, expected="a text that can be written", hint=HINT)
    return {name: found[name] for name in wanted}


def _architecture(path: str, data: Mapping[str, Any], *, classes: int) -> dict[str, Any]:
    found = _dict(path, "architecture", data["architecture"])
    _dict(path, "architecture.yaml", found.get("yaml"))
    checked_whole(path, "architecture.channels", found.get("channels"), MAX_CHANNELS, hint=HINT)
    if found.get("classes") != classes or isinstance(found["classes"], bool):
        expected = f"{classes}, one for each name"
        raise unfit(path, "architecture.classes", found.get("classes"), expected=expected, hint=HINT)
    task = found.get("task", "detect" if "act" in found else None)  # the families that have an entry `act` only detect
    if not isinstance(task, str) or task not in TASKS or data.get("task", task) != task:
        stated = data["task"] if task in TASKS else task
        raise unfit(path, "architecture.task", stated, expected=f"one of {', '.join(TASKS)}, as 'task' says", hint=HINT)
    if "stride" in data:
        checked_whole(path, "stride", data["stride"], MAX_SIDE, hint=HINT)
    return found


def _quantization(path: str, value: object) -> Quantization:
    found = _dict(path, "quantization", value)
    layers = found.get("layers")
    if not isinstance(layers, list) or not all(isinstance(name, str) for name in layers):
        raise unfit(path, "quantization.layers", layers, expected="a list of layer names", hint=HINT)
    calibration = _dict(path, "quantization.calibration", found.get("calibration"))
    placement = _dict(path, "quantization.placement", found.get("placement"))
    try:
        config = from_dict(QuantConfig, _dict(path, "quantization.config", found.get("config")))
        return Quantization(config, tuple(layers), PlacementPlan.from_dict(placement), calibration)
    except YoloqatError as error:
        raise ModelError(f"'{path}' cannot be used: {error.what}", expected=error.expected, hint=HINT) from error


def check_tensors(path: str, tensors: Mapping[str, Tensor], module: nn.Module) -> None:
    """Check the tensors of a checkpoint against its module; `load_state_dict` checks their names.

    Args:
        path: The file, named in errors.
        tensors: By name.
        module: With its quantizers, which may have no range yet.

    Raises:
        ModelError: A tensor is of another kind of number than the module's, or of another shape than its range must have, or a
            weight is not finite. Ranges are checked where they are used.
    """
    weights = {id(layer._weight_quantizer) for _, layer in quantized_layers(module)}
    ranges = {
        f"{name}.{end}": quantizer.amax.shape
        if id(quantizer) in weights and quantizer.amax is not None
        else torch.Size(())
        for name, quantizer in quantizers(module)
        for end in _ENDS
    }
    own = module.state_dict()
    for name, tensor in tensors.items():
        if name in ranges and tensor.shape != ranges[name]:
            _refuse(path, name, f"has the shape {tuple(tensor.shape)}", f"{tuple(ranges[name])}")
        floating = name in ranges or (own[name].is_floating_point() if name in own else tensor.is_floating_point())
        if tensor.dtype not in _FLOATS if floating else tensor.is_floating_point() or tensor.is_complex():
            _refuse(
                path,
                name,
                f"holds {tensor.dtype}",
                "floating-point numbers of 16 bits or more" if floating else "whole numbers",
            )
        if floating and name not in ranges and not bool(torch.isfinite(tensor.float()).all()):
            _refuse(path, name, "holds NaN or infinity", "finite numbers")


def _refuse(path: str, name: str, what: str, expected: str) -> None:
    raise ModelError(f"tensor '{name:.120}' of '{path}' {what}", expected=expected, hint=HINT)
