"""Small YOLOv5 and YOLOv7 models with seeded weights, and checkpoints as the original repositories pickle them."""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import nn

from yoloqat.detectors.anchor import AnchorModel, build
from yoloqat.detectors.anchor.head import Detect, IAuxDetect

NAMES = ["disc", "box", "star"]
ANCHORS = [[6, 7, 12, 9, 9, 14], [20, 18, 30, 33, 40, 28]]

YOLOV5: dict[str, Any] = {
    "nc": len(NAMES),
    "depth_multiple": 0.67,
    "width_multiple": 0.25,
    "anchors": ANCHORS,
    "backbone": [
        [-1, 1, "Conv", [32, 6, 2, 2]],
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 3, "C3", [64]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "SPPF", [128, 5]],
        [-1, 1, "Conv", [128, 3, 2]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 4], 1, "Concat", [1]],
        [-1, 1, "C3", [128, False]],
        [[8, 5], 1, "Detect", ["nc", "anchors"]],
    ],
    "ch": 3,
}
YOLOV7: dict[str, Any] = {
    "nc": len(NAMES),
    "depth_multiple": 1.0,
    "width_multiple": 0.25,
    "anchors": ANCHORS,
    "backbone": [
        [-1, 1, "ReOrg", []],
        [-1, 1, "Conv", [32, 3, 1]],
        [-1, 1, "DownC", [64]],
        [-1, 1, "Conv", [32, 1, 1]],
        [-2, 1, "Conv", [32, 1, 1, "None", 1, "nn.LeakyReLU(0.1)"]],
        [-1, 1, "Conv", [32, 3, 1]],
        [[-1, -2, -3], 1, "Concat", [1]],
        [-1, 1, "Conv", [64, 1, 1]],
        [[-1, 2], 1, "Shortcut", [1]],
        [-1, 1, "MP", []],
        [-1, 1, "SPPCSPC", [64]],
    ],
    "head": [
        [-1, 1, "SP", [3]],
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 10], 1, "Concat", [1]],
        [14, 1, "RepConv", [64, 3, 1]],
        [12, 1, "RepConv", [64, 3, 1]],
        [15, 1, "Conv", [64, 3, 1]],
        [16, 1, "Conv", [64, 3, 1]],
        [[15, 16, 17, 18], 1, "IAuxDetect", ["nc", "anchors"]],
    ],
    "ch": 3,
}
DESCRIPTIONS = {"yolov5": YOLOV5, "yolov7": YOLOV7}


def architecture_of(yaml: dict[str, Any], act: str = "nn.SiLU()") -> dict[str, Any]:
    """Return what a detector of that description is rebuilt from."""
    return {"yaml": copy.deepcopy(yaml), "channels": 3, "classes": yaml["nc"], "act": act}


def make_model(yaml: dict[str, Any], *, act: str = "nn.SiLU()", seed: int = 0) -> AnchorModel:
    """Return a model that is not folded, with seeded weights and batch-norm statistics of its own activations."""
    model = build(architecture_of(yaml, act))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 4 and "implicit" not in name:
                parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=generator)
            else:
                centre = float("im." in name or (parameter.ndim == 1 and name.endswith("weight")))
                parameter.normal_(centre, 0.1, generator=generator)
        model.head.anchors.copy_(torch.tensor(yaml["anchors"]).reshape(model.head.anchors.shape))
        norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
        for norm in norms:
            norm.running_var.fill_(1)
            norm.momentum = None  # a plain mean over the batches
        model.train()
        levels = model.levels(torch.rand(8, 3, 64, 64, generator=generator))
        if isinstance(model.head, IAuxDetect):
            for layer, level in zip(model.model[-3:-1], levels, strict=True):
                layer(level)
        for norm in norms:
            norm.momentum = 0.03
    return model.eval()


class _Classes:
    """Stand-ins for the package `models`, as long as something is pickled."""

    def __init__(self) -> None:
        self.modules = {name: ModuleType(name) for name in ("models", "models.common", "models.yolo")}

    def of(self, kind: str) -> type[nn.Module]:
        """Return the class of that name, made on first use."""
        package = "models.yolo" if kind in ("Model", "DetectionModel") or kind.endswith("Detect") else "models.common"
        if not hasattr(self.modules[package], kind):
            setattr(self.modules[package], kind, type(kind, (nn.Module,), {"__module__": package}))
        made: type[nn.Module] = getattr(self.modules[package], kind)
        return made


def original_module(model: AnchorModel, yaml: dict[str, Any], classes: _Classes, *, kind: str) -> nn.Module:
    """Return the module that the original code would pickle: its own classes, the same tensors and attributes."""
    model = copy.deepcopy(model)
    entries = [*yaml["backbone"], *yaml["head"]]
    for index, (layer, entry) in enumerate(zip(model.model, entries, strict=True)):
        layer.i, layer.f = index, entry[0]
    head: Detect = model.head
    strides = torch.tensor(head.stride)
    grid = head.anchors.clone()
    head.anchors = grid / strides.reshape(-1, 1, 1)
    if kind == "Model":  # what DetectionModel came with left the grid out
        head.register_buffer("anchor_grid", grid.reshape(head.nl, 1, -1, 1, 1, 2))
    head.stride = strides  # type: ignore[assignment]
    root = classes.of(kind)()
    root.model = nn.Sequential(*model.model)
    root.yaml, root.names, root.stride = copy.deepcopy(yaml), list(NAMES), strides
    for module in root.modules():
        if type(module).__module__.startswith("yoloqat"):
            module.__class__ = classes.of(type(module).__name__)
    return root


def save_original(
    path: Path,
    model: AnchorModel,
    yaml: dict[str, Any],
    *,
    kind: str = "Model",
    change: Any = None,
    ema: AnchorModel | None = None,
    more: Any = None,
    legacy: bool = False,
) -> Path:
    """Write a checkpoint as the original repositories do, in half precision.

    Args:
        path: The file.
        model: Not folded.
        yaml: Its description.
        kind: Class of the model.
        change: Called with the module that is about to be pickled.
        ema: The averaged model.
        more: Other entries of the checkpoint, or a function from the module to them.
        legacy: Write the format before torch 1.6.
    """
    classes = _Classes()
    root = original_module(model, yaml, classes, kind=kind).half()
    if change is not None:
        change(root)
    with mock.patch.dict(sys.modules, classes.modules), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old format wants the classes' source code
        averaged = None if ema is None else original_module(ema, yaml, classes, kind=kind).half()
        content = {"epoch": -1, "model": root, "ema": averaged, **(more(root) if callable(more) else more or {})}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path
