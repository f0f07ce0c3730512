"""Ultralytics' own checkpoints, read as data: their modules are rebuilt from known classes and no pickled code runs."""

from __future__ import annotations

import zipfile
from pathlib import Path

from torch import nn

from yoloqat.detectors.archive import is_torch_file, load_archive
from yoloqat.detectors.inert import DAMAGE, Inert
from yoloqat.detectors.recorded import Recorded
from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.detectors.ultralytics_layers import TASKS, module_class
from yoloqat.errors import ModelError
from yoloqat.metadata import checked_names

_RENAMED = {"YOLOv10DetectionModel": "DetectionModel"}
_HINT = "pass a .pt that Ultralytics trained for detection"


def recorded_model(path: Path) -> nn.Module:
    """Return the model that an Ultralytics checkpoint recorded, in evaluation mode, float32, nothing folded.

    Raises:
        ModelError: The file is no such checkpoint, is for another task, or holds a class that no detector is made of.
    """
    if not is_torch_file(path):
        raise ModelError(f"'{path}' is not a PyTorch checkpoint", expected="a .pt file of Ultralytics", hint=_HINT)
    try:
        checkpoint = load_archive(path)
    except (*DAMAGE, zipfile.BadZipFile) as error:
        raise ModelError(
            f"'{path}' cannot be loaded (the file is damaged)", expected="an Ultralytics checkpoint", hint=_HINT
        ) from error
    found = (checkpoint.get("ema") or checkpoint.get("model")) if isinstance(checkpoint, dict) else None
    if not isinstance(found, Inert) or found.kind.startswith("torch."):
        raise ModelError(f"'{path}' holds no Ultralytics model", expected="keys 'model' or 'ema'", hint=_HINT)
    _check_kind(found.kind, path)
    try:
        model = Recorded(known_class).module(found)
        if not isinstance(model.yaml, dict) or not isinstance(model.model, nn.Sequential):
            raise TypeError("no description, or no sequence of layers")
    except DAMAGE as error:
        raise ModelError(
            f"'{path}' holds no Ultralytics model ({error})", expected="one as Ultralytics pickles it", hint=_HINT
        ) from error
    except ModelError as error:
        raise ModelError(
            f"'{path}' cannot be loaded ({error.what})", expected=error.expected, hint=error.hint
        ) from error
    return model


def class_names(model: nn.Module, path: Path) -> dict[int, str]:
    """Return class index to class name of a recorded model.

    Raises:
        ModelError: They are not numbered from 0 without gaps, or one cannot be written.
    """
    return checked_names(str(path), getattr(model, "names", None), hint=_HINT)


def _check_kind(kind: str, path: Path) -> None:
    package, _, name = kind.rpartition(".")
    if package != "ultralytics.nn.tasks":
        held = "the original YOLOv5/YOLOv7 classes" if package.startswith("models") else f"{kind:.80}"
        raise ModelError(
            f"'{path}' cannot be loaded (it holds {held})", expected="an Ultralytics checkpoint", hint=_HINT
        )
    if _RENAMED.get(name, name) not in TASKS.values():  # the attribute `task` is not enough: RT-DETR's is 'detect' too
        raise ModelError(
            f"'{path}' is a {name:.80}",
            expected=f"one of {', '.join(TASKS.values())}",
            hint="pass a model of one of these",
        )


def known_class(kind: str) -> type[nn.Module] | None:
    """Return the class of a layer, or of a whole model, by its name in a pickle, or None where no detector consists of it."""
    package, _, name = kind.rpartition(".")
    name = _RENAMED.get(name, name)
    if package == "ultralytics.nn.tasks" and name in TASKS.values():
        found: type[nn.Module] = getattr(ultralytics_module("nn.tasks"), name)
        return found
    return module_class(kind)
