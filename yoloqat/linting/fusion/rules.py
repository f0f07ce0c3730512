"""The rules by which layers are predicted, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from yoloqat.linting import sources
from yoloqat.linting.rule import Source

_ISSUES = "https://github.com/NVIDIA/TensorRT/issues"


class Basis(StrEnum):
    """How well a rule is known."""

    DOCUMENTED = "documented"
    """NVIDIA's documentation says so."""
    SEEN = "seen"
    """It shows in a published log or layer list, or NVIDIA's engineers say so in an issue."""
    ASSUMED = "assumed"
    """It follows from the others; no log that we know of shows it."""


@dataclass(frozen=True)
class FusionRule:
    """One rule of the fusion model.

    Attributes:
        id: Short name; predicted layers list those that made them.
        says: What TensorRT does, in a sentence.
        basis: How well that is known.
        source: Where it can be read.
    """

    id: str
    says: str
    basis: Basis
    source: Source


def _issue(number: int, title: str) -> Source:
    return Source(f"TensorRT #{number}, {title}", f"{_ISSUES}/{number}")


_LOG = _issue(2527, "verbose log of a QDQ engine of TensorRT 8.5")
_CATALOG = Source(
    "TensorRT, Layer Fusion Catalog",
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/performance/fusion-catalog.html",
)

_LISTS = Source(
    "layer lists of YOLO26n engines in FP32 and FP16, TensorRT 10, of Minjea31/yolo26_TensorRT",
    "https://github.com/Minjea31/yolo26_TensorRT",
)

FUSION_RULES: tuple[FusionRule, ...] = (
    FusionRule(
        "conv-fusion",
        "A convolution whose activation and weight are dequantized takes the DQs, its bias and its activation function in, SiLU "
        "as Sigmoid x Mul included; with float inputs the same without the DQs.",
        Basis.SEEN,
        _issue(3861, "Conv, Sigmoid and Mul run as one layer"),
    ),
    FusionRule(
        "conv-quantize",
        "A Q that alone reads what comes out is fused in, and the convolution writes INT8; without it, it writes float.",
        Basis.DOCUMENTED,
        sources.PLACEMENT,
    ),
    FusionRule(
        "mixed-reader",
        "An output that a Q and a float layer read, or two Qs of different scales, is written in float, and each Q runs alone.",
        Basis.DOCUMENTED,
        sources.PLACEMENT,
    ),
    FusionRule(
        "float-input",
        "A layer with float inputs writes float: a Q behind a float convolution, and a DQ before it, run alone.",
        Basis.DOCUMENTED,
        sources.PLACEMENT,
    ),
    FusionRule(
        "add-fusion",
        "An Add behind a convolution is fused into it, with an activation between them too, and reads its skip there; with a "
        "dequantized skip the Q behind is fused as well, with a float one the layer writes float.",
        Basis.DOCUMENTED,
        sources.PLACEMENT,
    ),
    FusionRule(
        "transposed-quantize",
        "A Q behind a transposed convolution is not fused into it: it reads INT8 and writes float.",
        Basis.SEEN,
        _issue(
            2597, "the clone of a Q that a ConvTranspose did not take in; #1699 reports that one with an activation did"
        ),
    ),
    FusionRule(
        "depthwise-alone",
        "An activation behind a depthwise convolution is a layer of its own: depthwise kernels take no pointwise one in.",
        Basis.SEEN,
        _issue(3205, "an engineer on Conv, Sigmoid and Mul that stayed apart"),
    ),
    FusionRule(
        "pointwise",
        "Adjacent pointwise operators run as one layer, which takes the DQs before it in.",
        Basis.DOCUMENTED,
        _CATALOG,
    ),
    FusionRule(
        "pointwise-quantize",
        "A pointwise layer takes the Q behind it in; documented for dequantized inputs, assumed for float ones.",
        Basis.ASSUMED,
        sources.PLACEMENT,
    ),
    FusionRule(
        "propagate-quantize",
        "A Q moves back and a DQ forward across what only moves values: maximum pool, nearest resize, reshape, transpose, slice.",
        Basis.DOCUMENTED,
        sources.PROPAGATION,
    ),
    FusionRule(
        "clone-at-concat",
        "A Q behind a concat is cloned onto each of its inputs; each clone is fused into its layer or runs alone.",
        Basis.SEEN,
        _issue(2597, "clones of one Q under a concat, two fused and one not"),
    ),
    FusionRule(
        "merge-equal",
        "Several Qs of one tensor with one scale are one Q.",
        Basis.DOCUMENTED,
        sources.PROPAGATION,
    ),
    FusionRule(
        "input-quantize",
        "The Q of the images is a copy from FP32 to INT8.",
        Basis.SEEN,
        _LOG,
    ),
    FusionRule(
        "requantize",
        "A DQ followed by a Q of another scale, with nothing between, is a layer of its own.",
        Basis.SEEN,
        sources.CONCAT,
    ),
    FusionRule(
        "concat-in-place",
        "A concat costs nothing where each part is written in place; a slice of another tensor, or one that something other than "
        "a convolution reads too, is copied, and so is what a resize makes.",
        Basis.SEEN,
        _LISTS,
    ),
    FusionRule(
        "concat-channels",
        "INT8 tensors lie in blocks of 32 channels, FP16 ones of 8: a part of a concat or a slice that starts inside a block is "
        "copied.",
        Basis.SEEN,
        _issue(4039, "copies between layouts of 32 and of 4 channels"),
    ),
    FusionRule(
        "input-reformat",
        "A layer that reads FP32 images in FP16 has a copy before it.",
        Basis.SEEN,
        _issue(2921, "reformats at the ends of a network"),
    ),
    FusionRule(
        "tail",
        "What comes after the last layers, the decoding of boxes, is counted as one layer.",
        Basis.SEEN,
        _issue(4397, "a region of many operators compiled as one ForeignNode"),
    ),
    FusionRule(
        "alone",
        "Any other operator is a layer of its own in the precision of its tensors.",
        Basis.ASSUMED,
        _CATALOG,
    ),
)
"""All rules."""
