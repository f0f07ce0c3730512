"""Anchor-based detectors, built from a description or loaded from a checkpoint of the original code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from yoloqat.config.sizes import ImageSize
from yoloqat.detectors.anchor.activations import activation_text
from yoloqat.detectors.anchor.fold import fold
from yoloqat.detectors.anchor.kinds import FAMILIES, PREDICTIONS, VOCABULARY, YOLOV7_KINDS
from yoloqat.detectors.anchor.model import AnchorModel
from yoloqat.detectors.anchor.official import Node, Original, read_original
from yoloqat.detectors.anchor.parse import anchors_per_level, make_modules, read_layers
from yoloqat.detectors.anchor.structure import HEAD_BUFFERS, difference
from yoloqat.detectors.anchor.weights import anchor_sizes
from yoloqat.detectors.architecture import checked
from yoloqat.detectors.bounds import check_weights
from yoloqat.detectors.detector import Detector, Source
from yoloqat.detectors.inert import DAMAGE
from yoloqat.errors import ModelError
from yoloqat.predictor import ModelInfo
from yoloqat.provenance import file_sha256

_IMGSZ, _LARGE_IMGSZ, _LARGE_STRIDE = 640, 1280, 64
"""The authors' training sizes; models with a fourth level, of stride 64, use the larger."""

_HINT = "pass the checkpoint as it was trained, not pruned, fused or changed by hand"


def _skeleton(architecture: dict[str, Any]) -> AnchorModel:
    """Return the model of a description without memory for its tensors."""
    architecture = checked(architecture, VOCABULARY)
    layers = read_layers(architecture["yaml"])
    with torch.device("meta"):
        modules = make_modules(
            layers,
            architecture["yaml"],
            channels=architecture["channels"],
            classes=architecture["classes"],
            act=architecture["act"],
        )
        model = AnchorModel(layers, modules)
    check_weights(model)
    return model


def build(architecture: dict[str, Any]) -> AnchorModel:
    """Build a module from its description, with all tensors zero, ready to load weights.

    Args:
        architecture: Keys ``yaml`` (the model dict of the original code), ``channels``, ``classes`` and ``act``, the
            activation's text where a layer names none, e.g. ``"nn.SiLU()"``.

    Returns:
        The module in evaluation mode, nothing folded.

    Raises:
        ModelError: The description is not one of YOLOv5 or YOLOv7.
    """
    model = _skeleton(architecture).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
    return model.eval()


def family_of(kinds: set[str]) -> str:
    """Return ``"yolov7"`` where a description has layers that only YOLOv7 has, else ``"yolov5"``."""
    return FAMILIES[1] if kinds & YOLOV7_KINDS else FAMILIES[0]


def detector_from_module(
    module: AnchorModel, architecture: dict[str, Any], source: Source, *, names: dict[int, str], imgsz: ImageSize
) -> Detector:
    """Make a detector of a module that is not folded yet.

    Args:
        module: From :func:`build`, with its weights loaded.
        architecture: Description that it was built from.
        source: File of the weights.
        names: Class index to class name.
        imgsz: Size it was trained at: a side in pixels, or (height, width).
    """
    fold(module)
    head = module.head
    info = ModelInfo(names=names, stride=int(max(head.stride)), task="detect", channels=architecture["channels"])
    kept = {f"model.{len(module.model) - 1}.m.{level}": PREDICTIONS for level in range(head.nl)}
    architecture = checked(architecture, VOCABULARY)
    family = family_of({layer.kind for layer in read_layers(architecture["yaml"])})
    return Detector(module, info, imgsz, family, architecture, source, keep_float=kept)


def _recorded_act(layers: Node) -> str:
    """Return the activation of the first `Conv` that uses the model's default."""
    for _, node in layers.walk():
        if node.kind == "Conv" and "act" in node.children:
            act = node.children["act"]
            return activation_text(act.kind, act.attributes)
    return "nn.SiLU()"


def _architecture(original: Original, path: Path | str) -> dict[str, Any]:
    yaml = original.yaml
    classes = yaml.get("nc")
    if not isinstance(classes, int) or sorted(original.names) != list(range(classes)):
        raise ModelError(
            f"'{path}' has {len(original.names)} class names and nc {classes!r}",
            expected="one name for every class",
            hint=_HINT,
        )
    described = {
        "yaml": yaml,
        "channels": yaml.get("ch", 3),
        "classes": classes,
        "act": _recorded_act(original.layers),
    }
    try:
        return checked(described, VOCABULARY)
    except ModelError as error:
        raise ModelError(f"'{path}': {error.what}", expected=error.expected, hint=error.hint) from error


def _weighted(model: AnchorModel, original: Original, *, anchors: int) -> AnchorModel:
    """Give a model without memory the tensors of the checkpoint it was built from."""
    last = len(model.model) - 1
    head = f"{last}."
    skipped = {f"{head}{name}" for name in HEAD_BUFFERS}
    state = {name: value for name, value in original.layers.state().items() if name not in skipped}
    state[f"{head}anchors"] = anchor_sizes(original.layers.children[str(last)], model.head.stride, anchors=anchors)
    model.model.load_state_dict(state, assign=True)
    return model


def original_model(original: Original, path: Path | str) -> tuple[AnchorModel, dict[str, Any]]:
    """Return a checkpoint's model, nothing folded, in evaluation mode, and the description that it can be rebuilt from.

    Args:
        original: Contents of the checkpoint.
        path: Of the checkpoint, for messages.

    Raises:
        ModelError: The model is not what its own description gives.
    """
    architecture = _architecture(original, path)
    model = _skeleton(architecture)
    try:
        reason = difference(original.layers, model)
    except DAMAGE as error:
        reason = f"its layers cannot be compared to its description ({error!r:.200})"
    if reason is not None:
        raise ModelError(
            f"'{path}' cannot be rebuilt: {reason}", expected="a model that its own description gives", hint=_HINT
        )
    return _weighted(model, original, anchors=anchors_per_level(architecture["yaml"])).eval(), architecture


def load_anchor(path: Path) -> Detector:
    """Load a ``.pt`` of the original YOLOv5 or YOLOv7 code.

    Args:
        path: The checkpoint. It is read as data: none of its classes is imported, none of its code runs.

    Returns:
        The detector, of the family ``"yolov5"`` or ``"yolov7"``, with everything folded that inference does not need.

    Raises:
        ModelError: The file is no such checkpoint, or its model is not what its own description gives.
    """
    original = read_original(path)
    model, architecture = original_model(original, path)
    imgsz = original.imgsz or (_LARGE_IMGSZ if max(model.head.stride) >= _LARGE_STRIDE else _IMGSZ)
    source = Source(str(path), file_sha256(path))
    return detector_from_module(model, architecture, source, names=original.names, imgsz=imgsz)
