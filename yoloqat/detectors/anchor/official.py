"""Checkpoints of the original YOLOv5 and YOLOv7 repositories, read as data."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from yoloqat.detectors.archive import globals_of, is_torch_file, load_archive
from yoloqat.detectors.inert import DAMAGE, Inert
from yoloqat.detectors.recorded import Recorded
from yoloqat.errors import ModelError
from yoloqat.metadata import MAX_SIDE, checked_names

PACKAGE = "models."
"""The package of both repositories, by which their pickles name classes."""

DETECTORS = ("models.yolo.Model", "models.yolo.DetectionModel")
_DAMAGE = (*DAMAGE, zipfile.BadZipFile)
_HINT = "pass a .pt that the original YOLOv5 or YOLOv7 code wrote for detection"


@dataclass(frozen=True, eq=False)
class Node:
    """A module of the original code, as its pickle recorded it.

    Attributes:
        kind: Name of its class, without the package.
        attributes: Plain values.
        tensors: Parameters and buffers.
        children: Submodules.
    """

    kind: str
    attributes: dict[str, Any]
    tensors: dict[str, torch.Tensor] = field(repr=False)
    children: dict[str, Node] = field(repr=False)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, Node]]:
        """Yield this module and all below it with their qualified names."""
        yield prefix, self
        for name, child in self.children.items():
            yield from child.walk(f"{prefix}.{name}" if prefix else name)

    def state(self) -> dict[str, torch.Tensor]:
        """Return all tensors by qualified name, floating-point ones as float32."""
        return {
            f"{prefix}.{name}" if prefix else name: value.float() if value.is_floating_point() else value
            for prefix, node in self.walk()
            for name, value in node.tensors.items()
        }


@dataclass(frozen=True, eq=False)
class Original:
    """A detector of the original code.

    Attributes:
        layers: The container of its layers.
        yaml: The description that it was built from.
        names: Class index to class name.
        imgsz: Side in pixels that it was trained at, or None where it is not recorded.
    """

    layers: Node
    yaml: dict[str, Any]
    names: dict[int, str]
    imgsz: int | None


def is_original(path: Path) -> bool:
    """Return whether a file is a checkpoint of the original repositories: it names classes of their package `models`.

    Nothing is unpickled. A file that is no checkpoint, or a damaged one, is none of theirs.
    """
    try:
        return is_torch_file(path) and any(name.startswith(PACKAGE) for name in globals_of(path))
    except _DAMAGE:
        return False


def _node(module: Any, recorded: Recorded) -> Node:
    recorded.count()
    if not isinstance(module, Inert) or not isinstance(module.state, dict):
        raise TypeError(f"{getattr(module, 'kind', type(module).__name__)} instead of a module")
    state = module.state
    tensors: Mapping[str, Any] = {**state["_parameters"], **state["_buffers"]}
    return Node(
        module.kind.rpartition(".")[2],
        {name: recorded.plain(value) for name, value in state.items() if not name.startswith("_")},
        {name: held.tensor for name, held in tensors.items() if held is not None},
        {name: _node(child, recorded) for name, child in state["_modules"].items() if child is not None},
    )


def _imgsz(checkpoint: Mapping[str, Any]) -> int | None:
    options = checkpoint.get("opt")  # YOLOv5 keeps its training options, YOLOv7 does not
    size = options.get("imgsz") if isinstance(options, dict) else None
    return size if type(size) is int and 0 < size <= MAX_SIDE else None


def _model(checkpoint: Any, path: Path) -> Inert:
    model = (checkpoint.get("ema") or checkpoint.get("model")) if isinstance(checkpoint, dict) else None
    if not isinstance(model, Inert):
        raise ModelError(f"'{path}' holds no YOLOv5 or YOLOv7 model", expected="keys 'model' or 'ema'", hint=_HINT)
    if model.kind not in DETECTORS:
        raise ModelError(f"'{path}' holds a {model.kind}", expected=f"a {' or a '.join(DETECTORS)}", hint=_HINT)
    return model


def read_original(path: Path) -> Original:
    """Read a checkpoint of the original repositories; no class is imported and no pickled code runs.

    Args:
        path: Of which :func:`is_original` is true.

    Raises:
        ModelError: The file is damaged, or holds no detector as the original code makes it.
    """
    try:
        checkpoint = load_archive(path)
    except _DAMAGE as error:
        raise ModelError(
            f"'{path}' cannot be loaded (the file is damaged: {error})", expected="a whole checkpoint", hint=_HINT
        ) from error
    model = _model(checkpoint, path)
    try:
        root = _node(model, Recorded(lambda _kind: None))
        yaml = root.attributes["yaml"]
        names = checked_names(str(path), root.attributes["names"], hint=_HINT)
        if not isinstance(yaml, dict):
            raise TypeError(f"a description that is {yaml!r:.40}")
        return Original(root.children["model"], yaml, names, _imgsz(checkpoint))
    except _DAMAGE as error:
        raise ModelError(
            f"the model in '{path}' is not as the original code makes it ({error!r})",
            expected="a module with its description and names",
            hint=_HINT,
        ) from error
