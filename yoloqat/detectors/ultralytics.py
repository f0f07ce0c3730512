"""Ultralytics detectors: read as data, rebuilt from their own checked description, batch-norms folded."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yoloqat.config.sizes import ImageSize
from yoloqat.detectors.architecture import checked
from yoloqat.detectors.bounds import SIDE, check_size
from yoloqat.detectors.detector import Detector, Source
from yoloqat.detectors.ultralytics_file import class_names, recorded_model
from yoloqat.detectors.ultralytics_import import quiet, ultralytics_module
from yoloqat.detectors.ultralytics_layers import TASKS, VOCABULARY
from yoloqat.errors import ModelError
from yoloqat.predictor import ModelInfo
from yoloqat.provenance import file_sha256

FAMILY = "ultralytics"

_UNBUILT = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Exceptions of layers that do not fit each other or their arguments."""

_BRANCHES = ("cv2", "cv3", "cv4", "one2one_cv2", "one2one_cv3", "one2one_cv4")
"""Branches of the Detect head and its subclasses; the last convolution of each gives the predictions."""


def batch_norms(path: Path) -> dict[str, nn.BatchNorm2d]:
    """Return the batch-norms of an Ultralytics ``.pt`` by the name of the convolution that each follows.

    Raises:
        ModelError: The file is no such checkpoint.
    """
    block = ultralytics_module("nn.modules.conv").Conv
    found = recorded_model(path).named_modules()
    named = {f"{name}.conv": getattr(child, "bn", None) for name, child in found if isinstance(child, block)}
    return {name: norm for name, norm in named.items() if isinstance(norm, nn.BatchNorm2d)}


@contextmanager
def _activation_kept() -> Iterator[None]:
    """Restore the default activation of Ultralytics, which a failed build leaves changed."""
    block = ultralytics_module("nn.modules.conv").Conv
    kept = block.default_act
    try:
        yield
    finally:
        block.default_act = kept


def build(architecture: dict[str, Any]) -> nn.Module:
    """Build an Ultralytics module with fresh weights from its description.

    Args:
        architecture: Keys ``task``, ``yaml`` (Ultralytics' model dict), ``channels`` and ``classes``. It is checked against a
            closed vocabulary first, see :mod:`yoloqat.detectors.architecture`.

    Returns:
        The module in evaluation mode, batch-norms not folded.

    Raises:
        ModelError: The description says what none may, is too large, or the installed Ultralytics cannot build it.
    """
    clean = checked(architecture, VOCABULARY)
    tasks = ultralytics_module("nn.tasks")
    kind = getattr(tasks, TASKS[clean["task"]])
    yaml, channels, classes = clean["yaml"], clean["channels"], clean["classes"]
    try:
        with (
            quiet(),
            _activation_kept(),
            torch.random.fork_rng(devices=[]),
        ):  # initial weights; the caller's state stays
            with torch.device("meta"):
                layers, _ = tasks.parse_model(copy.deepcopy(yaml) | {"nc": classes}, channels, verbose=False)
            check_size(layers.eval(), channels)
            model: nn.Module = kind(yaml, ch=channels, nc=classes, verbose=False)
    except _UNBUILT as error:
        raise ModelError(
            f"the architecture of {yaml.get('yaml_file', 'this model')!r} cannot be built ({error!r:.300})",
            expected="layers that fit each other, as the installed Ultralytics makes them",
            hint="install the Ultralytics version that trained it",
        ) from error
    return model.float().eval()


def _predictions(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Return the decoded predictions, which heads outside export mode nest with raw ones."""
    output: Any = model(image)
    while not isinstance(output, torch.Tensor):
        output = output[0]
    return output


def _difference(model: nn.Module, rebuilt: nn.Module, stride: int, channels: int) -> str | None:
    """Return why ``rebuilt`` with the weights of ``model`` is another model, or None when it is the same one."""
    state, fresh = model.state_dict(), rebuilt.state_dict()
    for name in sorted(set(state) ^ set(fresh)):
        return f"'{name}' is {'missing from' if name in state else 'only in'} its architecture description"
    for name, value in state.items():
        if value.shape != fresh[name].shape:
            return f"'{name}' has shape {tuple(value.shape)}, its architecture description gives {tuple(fresh[name].shape)}"
    rebuilt.load_state_dict(state)
    with torch.inference_mode():
        image = torch.rand(1, channels, 2 * stride, 2 * stride, generator=torch.Generator().manual_seed(0))
        # NaN is compared as a number: weights that are not finite are a fault of their own, which calibration names
        if not torch.equal(_predictions(model, image).nan_to_num(), _predictions(rebuilt, image).nan_to_num()):
            return "its outputs differ from those of its architecture description with the same weights"
    return None


def _prepare(module: nn.Module) -> nn.Module:
    """Fold batch-norms and set the head to return its decoded outputs alone.

    A head that was trained to give each object one box (YOLOv10, YOLO26) keeps that branch; folding removes the other one.

    Raises:
        ModelError: A layer is not as Ultralytics makes it.
    """
    head: Any = module.model[-1]  # type: ignore[index]
    if getattr(head, "one2one_cv2", None) is not None:
        head.end2end = True
    try:
        with quiet():
            module = module.fuse(verbose=False)  # type: ignore[operator]
    except (AttributeError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"the batch-norms of this {type(module).__name__} cannot be folded ({error})",
            expected="a model as Ultralytics builds it",
            hint="pass the checkpoint as it was trained, not pruned or changed by hand",
        ) from error
    head.export = True
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()


def _head_layers(module: nn.Module) -> dict[str, str]:
    """Return the head's layers that stay float by default, each with the reason."""
    head_name = f"model.{len(module.model) - 1}"  # type: ignore[arg-type]
    head = module.get_submodule(head_name)
    kept: dict[str, str] = {}
    for branch in _BRANCHES:
        levels = getattr(head, branch, None)
        if isinstance(levels, nn.ModuleList):
            for level, layers in enumerate(levels):
                last = [name for name, child in layers.named_modules() if isinstance(child, nn.Conv2d)][-1]
                kept[f"{head_name}.{branch}.{level}.{last}"] = "gives the predictions"
    prototypes = getattr(getattr(head, "proto", None), "cv3", None)
    if isinstance(prototypes, nn.Module):
        kept |= {
            f"{head_name}.proto.cv3.{name}": "gives the mask prototypes"
            for name, child in prototypes.named_modules()
            if isinstance(child, nn.Conv2d)
        }
    if isinstance(getattr(head, "dfl", None), nn.Module):
        kept |= {
            f"{head_name}.dfl.{name}": "fixed expectation over box distances"
            for name, child in head.dfl.named_modules()  # type: ignore[union-attr]
            if isinstance(child, nn.Conv2d)
        }
    return kept


def detector_from_module(
    module: nn.Module, architecture: dict[str, Any], source: Source, *, names: dict[int, str], imgsz: ImageSize
) -> Detector:
    """Make a detector of an Ultralytics module whose batch-norms are not folded yet.

    Args:
        module: From :func:`build`, with its weights loaded.
        architecture: Description that it was built from.
        source: File of the weights.
        names: Class index to class name.
        imgsz: Size it was trained at: a side in pixels, or (height, width).
    """
    stride = int(max(module.stride))  # type: ignore[arg-type]
    module = _prepare(module)
    head = module.model[-1]  # type: ignore[index]
    end2end = bool(getattr(head, "end2end", False))
    architecture = checked(architecture, VOCABULARY)
    info = ModelInfo(
        names=names, stride=stride, task=architecture["task"], end2end=end2end, channels=architecture["channels"]
    )
    return Detector(module, info, imgsz, FAMILY, architecture, source, keep_float=_head_layers(module))


def _check_runs(model: nn.Module, channels: int, path: Path) -> int:
    """Check that a recorded model runs, and within bounds; return its largest stride in pixels."""
    layers: Any = model.model
    try:
        stride = int(torch.as_tensor(model.stride).max())
        if not 1 <= stride <= SIDE:
            raise ValueError(f"a stride of {stride} pixels")
        check_size(copy.deepcopy(layers).to("meta"), channels)
        with torch.inference_mode():
            _predictions(model, torch.zeros(1, channels, 2 * stride, 2 * stride))
    except _UNBUILT as error:
        raise ModelError(
            f"the model in '{path}' cannot be run ({error!r:.300})",
            expected="one as Ultralytics trains it",
            hint="pass the checkpoint as it was trained, not changed by hand",
        ) from error
    return stride


def load_ultralytics(path: Path) -> Detector:
    """Load an Ultralytics ``.pt`` for detection, segmentation, poses or rotated boxes.

    Args:
        path: The checkpoint. It is read as data: nothing in it is run.

    Returns:
        The detector, rebuilt from its own architecture description where that gives the same model.

    Raises:
        ModelError: The file is no such checkpoint, is for another task, or its description says what none may.
    """
    model = recorded_model(path)
    names = class_names(model, path)
    yaml: Any = model.yaml
    described = {
        "task": next(task for task, name in TASKS.items() if name == type(model).__name__),
        "yaml": yaml,
        "channels": yaml.get("channels", yaml.get("ch", 3)),
        "classes": len(names),
    }
    try:
        architecture = checked(described, VOCABULARY)
    except ModelError as error:
        raise ModelError(f"'{path}': {error.what}", expected=error.expected, hint=error.hint) from error
    arguments = getattr(model, "args", None)
    imgsz = arguments.get("imgsz", 640) if isinstance(arguments, dict) else 640
    source = Source(str(path), file_sha256(path))
    stride = _check_runs(model, architecture["channels"], path)
    try:
        rebuilt = build(architecture)
        difference = _difference(model, rebuilt, stride, architecture["channels"])
    except ModelError as error:
        rebuilt, difference = model, str(error)
    detector = detector_from_module(
        model if difference else rebuilt,
        architecture,
        source,
        names=names,
        imgsz=imgsz if type(imgsz) is int and imgsz > 0 else 640,
    )
    detector.not_rebuildable = difference
    return detector
