"""The layers of Ultralytics' detectors, by name: what a description may list, and what a checkpoint may consist of."""

from __future__ import annotations

from torch import nn

from yoloqat.detectors.architecture import ACTIVATIONS, Vocabulary
from yoloqat.detectors.ultralytics_import import ultralytics_module

TASKS = {"detect": "DetectionModel", "segment": "SegmentationModel", "pose": "PoseModel", "obb": "OBBModel"}
"""The tasks whose boxes can be scored, with the class of `ultralytics.nn.tasks` that builds them."""

_BLOCKS = (
    "A2C2f",
    "AConv",
    "ADown",
    "AIFI",
    "Bottleneck",
    "BottleneckCSP",
    "C1",
    "C2",
    "C2PSA",
    "C2f",
    "C2fCIB",
    "C2fPSA",
    "C3",
    "C3Ghost",
    "C3TR",
    "C3k2",
    "C3x",
    "CBFuse",
    "CBLinear",
    "Concat",
    "Conv",
    "Conv2",
    "ConvTranspose",
    "DWConv",
    "DWConvTranspose2d",
    "ELAN1",
    "Focus",
    "GhostBottleneck",
    "GhostConv",
    "HGBlock",
    "HGStem",
    "Index",
    "PSA",
    "RepC3",
    "RepConv",
    "RepNCSPELAN4",
    "RepVGGDW",
    "ResNetLayer",
    "SCDown",
    "SPP",
    "SPPELAN",
    "SPPF",
)
_INNER = (
    "AAttn",
    "ABlock",
    "Attention",
    "C3k",
    "CIB",
    "DFL",
    "LightConv",
    "MLPBlock",
    "PSABlock",
    "Proto",
    "Proto26",
    "RealNVP",
    "RepBottleneck",
    "RepCSP",
    "ResNetBlock",
    "TransformerBlock",
    "TransformerEncoderLayer",
    "TransformerLayer",
)
_TORCH = (
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "ConvTranspose2d",
    "Identity",
    "MaxPool2d",
    "Upsample",
    "ZeroPad2d",
    *(name for name in ACTIVATIONS if name != "Identity"),
)
_TORCH_INNER = (
    "Dropout",
    "LayerNorm",
    "Linear",
    "ModuleList",
    "MultiheadAttention",
    "NonDynamicallyQuantizableLinear",
    "Sequential",
)

HEADS = {
    "detect": frozenset({"Detect", "v10Detect"}),
    "segment": frozenset({"Segment", "Segment26"}),
    "pose": frozenset({"Pose", "Pose26"}),
    "obb": frozenset({"OBB", "OBB26"}),
}
"""The last layer, by task."""

VOCABULARY = Vocabulary(
    layers=frozenset(_BLOCKS) | {f"nn.{name}" for name in _TORCH} | {"Silence"},  # as YOLOv9's identity was once called
    heads=HEADS,
    words=frozenset({"nc", "kpt_shape"}),
    required=("task", "yaml", "channels", "classes"),
)
"""Vocabulary of the descriptions of Ultralytics' models."""

_RENAMED = {"Silence": "torch.nn.modules.linear.Identity"}


def module_class(kind: str) -> type[nn.Module] | None:
    """Return the class that a checkpoint's module is made of, or None where it is of no layer that is known.

    Args:
        kind: ``"package.Class"`` as a pickle names it; older versions of Ultralytics kept their layers in other modules.
    """
    package, _, name = _RENAMED.get(kind.rpartition(".")[2], kind).rpartition(".")
    found: type[nn.Module] | None = None
    if package.startswith("torch.nn.") and name in (*_TORCH, *_TORCH_INNER):
        found = getattr(nn, name, None) or getattr(nn.modules.linear, name)
    elif package.startswith("ultralytics.nn.") and name in (
        *_BLOCKS,
        *_INNER,
        *(h for heads in HEADS.values() for h in heads),
    ):
        for place in ("block", "conv", "head", "transformer"):
            found = found or getattr(ultralytics_module(f"nn.modules.{place}"), name, None)
    return found
