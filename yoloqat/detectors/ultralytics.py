"""Ultralytics detectors: loaded without running pickled code, rebuilt from their own description, batch-norms folded."""

from __future__ import annotations

import pickle
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yoloqat.config.sizes import ImageSize
from yoloqat.detectors.detector import Detector, Source
from yoloqat.detectors.ultralytics_import import quiet, ultralytics_module
from yoloqat.errors import ModelError
from yoloqat.predictor import ModelInfo
from yoloqat.provenance import file_sha256

FAMILY = "ultralytics"

TASKS = {"detect": "DetectionModel", "segment": "SegmentationModel", "pose": "PoseModel", "obb": "OBBModel"}
"""The tasks whose boxes can be scored, with the class of `ultralytics.nn.tasks` that builds them."""

_BRANCHES = ("cv2", "cv3", "cv4", "one2one_cv2", "one2one_cv3", "one2one_cv4")
"""Branches of the Detect head and its subclasses; the last convolution of each gives the predictions."""


@contextmanager
def _neutral_name(path: Path) -> Iterator[Path]:
    """Give a link to ``path`` whose name means nothing: for a yolov5s.pt, e.g., Ultralytics would download another model."""
    with tempfile.TemporaryDirectory(prefix="yoloqat-") as folder:
        link = Path(folder) / "weights.pt"
        link.symlink_to(path.resolve())
        yield link


def _reason(path: Path, error: Exception) -> str:
    """Return in a few words why a checkpoint cannot be loaded."""
    try:
        foreign = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError):
        return "the file is damaged"
    if any(name.startswith("models.") for name in foreign):  # the package of the original repositories
        return "it holds the original YOLOv5/YOLOv7 classes"
    known = ("torch.", "ultralytics.", "collections.", "builtins.")
    unknown = [name for name in foreign if not name.startswith(known)]
    text = str(error).splitlines() or [type(error).__name__]
    return f"it holds {', '.join(unknown[:3])}" if unknown else text[0]


def _checkpoint_model(path: Path) -> nn.Module:
    """Return the pickled model of an Ultralytics checkpoint, unpickled against an allow-list."""
    tasks = ultralytics_module("nn.tasks")
    mend = "pass a .pt that Ultralytics trained for detection"
    if not zipfile.is_zipfile(path):  # torch.save has written zip archives since 1.6
        raise ModelError(f"'{path}' is not a PyTorch checkpoint", expected="a .pt file of Ultralytics", mend=mend)
    try:
        with quiet(), _neutral_name(path) as neutral:
            checkpoint, _ = tasks.torch_safe_load(neutral, safe_only=True)
    except (
        OSError,
        TypeError,
        RuntimeError,
        ModuleNotFoundError,
        AttributeError,
        EOFError,
        pickle.UnpicklingError,
        KeyError,
    ) as error:
        raise ModelError(
            f"'{path}' cannot be loaded ({_reason(path, error)})", expected="an Ultralytics checkpoint", mend=mend
        ) from error
    model = (checkpoint.get("ema") or checkpoint.get("model")) if isinstance(checkpoint, dict) else None
    if not isinstance(model, nn.Module) or not isinstance(getattr(model, "yaml", None), dict):
        raise ModelError(f"'{path}' holds no Ultralytics model", expected="keys 'model' or 'ema'", mend=mend)
    return model.float().eval()


def batch_norms(path: Path) -> dict[str, nn.BatchNorm2d]:
    """Return the batch-norms of an Ultralytics ``.pt`` by the name of the convolution that each follows.

    Raises:
        ModelError: The file is no such checkpoint.
    """
    block = ultralytics_module("nn.modules.conv").Conv
    found = _checkpoint_model(path).named_modules()
    named = {f"{name}.conv": getattr(child, "bn", None) for name, child in found if isinstance(child, block)}
    return {name: norm for name, norm in named.items() if isinstance(norm, nn.BatchNorm2d)}


def _task(model: nn.Module, path: Path) -> str:
    kind = type(model).__name__  # the attribute `task` is not enough: RT-DETR's is 'detect' too
    task = next((task for task, name in TASKS.items() if name == kind), None)
    if task is None:
        raise ModelError(
            f"'{path}' is a {kind}",
            expected=f"one of {', '.join(TASKS.values())}",
            mend="pass a model of one of these",
        )
    return task


def build(architecture: dict[str, Any]) -> nn.Module:
    """Build an Ultralytics module with fresh weights from its description.

    Args:
        architecture: Keys ``task``, ``yaml`` (Ultralytics' model dict), ``channels`` and ``classes``.

    Returns:
        The module in evaluation mode, batch-norms not folded.

    Raises:
        ModelError: The installed Ultralytics cannot build that description.
    """
    kind = getattr(ultralytics_module("nn.tasks"), TASKS[architecture["task"]])
    try:
        with quiet(), torch.random.fork_rng(devices=[]):  # building draws initial weights; the caller's state stays
            model: nn.Module = kind(
                architecture["yaml"], ch=architecture["channels"], nc=architecture["classes"], verbose=False
            )
    except (KeyError, AttributeError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ModelError(
            f"the architecture of {architecture['yaml'].get('yaml_file', 'this model')!r} cannot be built ({error!r})",
            expected="modules that the installed Ultralytics knows",
            mend="install the Ultralytics version that trained it",
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
            mend="pass the checkpoint as it was trained, not pruned or changed by hand",
        ) from error
    head.export = True
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()


def _head_layers(module: nn.Module) -> dict[str, str]:
    """Return the head's layers that stay float by default, with the reason."""
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
        architecture: What it was built from.
        source: Where the weights came from.
        names: Class index to class name.
        imgsz: Size it was trained at: a side in pixels, or (height, width).
    """
    stride = int(max(module.stride))  # type: ignore[arg-type]
    module = _prepare(module)
    head = module.model[-1]  # type: ignore[index]
    end2end = bool(getattr(head, "end2end", False))
    info = ModelInfo(
        names=names, stride=stride, task=architecture["task"], end2end=end2end, channels=architecture["channels"]
    )
    return Detector(module, info, imgsz, FAMILY, architecture, source, keep_float=_head_layers(module))


def load_ultralytics(path: Path) -> Detector:
    """Load an Ultralytics ``.pt`` for detection or segmentation.

    Args:
        path: The checkpoint. Its pickled code is not run: only known classes are reconstructed.

    Returns:
        The detector, rebuilt from its own architecture description where that gives the same model.

    Raises:
        ModelError: The file is no such checkpoint, or is for another task.
    """
    model = _checkpoint_model(path)
    task = _task(model, path)
    yaml = dict(model.yaml)  # type: ignore[arg-type]
    listed: Any = model.names
    listed = listed if isinstance(listed, dict) else dict(enumerate(listed))  # old checkpoints hold a list
    names = {int(index): str(name) for index, name in listed.items()}
    architecture = {
        "task": task,
        "yaml": yaml,
        "channels": int(yaml.get("channels", yaml.get("ch", 3))),
        "classes": len(names),
    }
    arguments = getattr(model, "args", None)
    imgsz = arguments.get("imgsz", 640) if isinstance(arguments, dict) else 640
    source = Source(str(path), file_sha256(path))
    try:
        rebuilt = build(architecture)
        difference = _difference(model, rebuilt, int(max(model.stride)), architecture["channels"])  # type: ignore[arg-type]
    except ModelError as error:
        rebuilt, difference = model, str(error)
    detector = detector_from_module(
        model if difference else rebuilt,
        architecture,
        source,
        names=names,
        imgsz=imgsz if isinstance(imgsz, int) else 640,
    )
    detector.not_rebuildable = difference
    return detector
