"""What TensorRT is predicted to run: the layers of an engine, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

INT8, HALF, FLOAT = "i8", "f16", "f32"
"""Precisions, in the words of an engine's layers."""


class Kind(StrEnum):
    """What a predicted layer does."""

    CONVOLUTION = "convolution"
    """A convolution, transposed convolution, Gemm or MatMul by a weight, with all that is fused into it."""
    DEPTHWISE = "depthwise"
    """A depthwise convolution; activations are not fused into it."""
    PRODUCT = "product"
    """A product of two activations, as attention has them."""
    POINTWISE = "pointwise"
    """Operators that work element by element, fused into one."""
    POOL = "pool"
    """Pooling, resizing, or a reduction."""
    QUANTIZE = "quantize"
    """A QuantizeLinear that is fused into nothing."""
    DEQUANTIZE = "dequantize"
    """A DequantizeLinear that is fused into nothing."""
    REFORMAT = "reformat"
    """A copy: a part of a concat that cannot be written in place, or a change of type or layout."""
    OTHER = "other"
    """Anything else, e.g. a softmax, or the decoding of boxes behind the last layers."""


@dataclass(frozen=True)
class PredictedLayer:
    """One layer of the predicted engine.

    Attributes:
        name: Its nodes, joined as TensorRT joins them, or what it does to a tensor.
        kind: What it does.
        nodes: Names of the nodes of the file that run in it, in order; of a copy, those between which it is made.
        precision_in: Type of the activations that it reads, ``"i8"``, ``"f16"`` or ``"f32"``; the widest where they differ.
        precision_out: Type of what it writes.
        bytes: Bytes read and written: activations, and weights once.
        macs: Multiply-adds.
        rules: Ids of the rules by which it is predicted, see :data:`yoloqat.linting.fusion.FUSION_RULES`.
        cause: Why a copy, a standalone Q or DQ or a float output is there; empty where nothing is lost.
        time_ms: Least time by GPU name, in milliseconds: the longer of moving the bytes and computing the multiply-adds at peak.
    """

    name: str
    kind: Kind
    nodes: tuple[str, ...]
    precision_in: str
    precision_out: str
    bytes: int
    macs: int
    rules: tuple[str, ...] = ()
    cause: str = ""
    time_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def standalone(self) -> bool:
        """Whether it computes nothing of the model: it only changes how a tensor is stored."""
        return self.kind in (Kind.QUANTIZE, Kind.DEQUANTIZE, Kind.REFORMAT)

    def to_dict(self) -> dict[str, Any]:
        """Return ``{layer, kind, nodes, precision_in, precision_out, bytes, macs, rules, cause, time_ms}``, JSON-able."""
        values = asdict(self)
        name = values.pop("name")
        return {"layer": name} | values | {"kind": str(self.kind), "nodes": list(self.nodes), "rules": list(self.rules)}
