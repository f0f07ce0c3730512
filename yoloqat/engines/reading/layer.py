"""One layer of an engine, whatever its runtime and whatever wrote it down."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Literal

UNKNOWN = "unknown"
INT8 = frozenset({"i8", "u8"})
FLOATS = frozenset({"f32", "f16", "bf16"})
Kind = Literal["compute", "copy", "quantize", "dequantize"]

_TYPES = (
    (r"uint8|\bu8\b", "u8"),
    (r"int8|\bi8\b", "i8"),
    (r"fp8|float8", "f8"),
    (r"bfloat16|bf16", "bf16"),
    (r"fp16|half|float16|\bf16\b", "f16"),
    (r"fp32|float|\bf32\b", "f32"),
    (r"int32|\bi32\b", "i32"),
    (r"int64|\bi64\b", "i64"),
    (r"int4|\bi4\b", "i4"),
    (r"bool", "bool"),
)
_COPY = re.compile(r"^Reformatting CopyNode|(input|output) reformatter \d+$| copy$")
_COPY_TYPES = re.compile(r"reformat|reorder|^convert$|^cast$", re.IGNORECASE)
_QUANTIZE = re.compile(r"(?<!De)QuantizeLinear|_quantize_scale_node|FakeQuantize")
_DEQUANTIZE = re.compile(r"DequantizeLinear|_dequantize_scale_node")
_WORK = re.compile(r"conv|correlation|gemm|matmul|matrix", re.IGNORECASE)
_CLONE = re.compile(r"_clone_\d+$")


def type_of(text: str) -> str:
    """Return the short name of a type in any tool's words, e.g. ``"f16"`` for ``"Row major linear FP16"``."""
    return next((short for pattern, short in _TYPES if re.search(pattern, text, re.IGNORECASE)), UNKNOWN)


@dataclass(frozen=True)
class Tensor:
    """A tensor that a layer reads or writes.

    Attributes:
        name: Its name in the engine.
        type: Short name of its type, e.g. ``"i8"``; ``"unknown"`` where it is not told.
        format: How it lies in memory, in the tool's own words; empty where it is not told.
        shape: Its sides, those of a batch among them; empty where they are not told. Open ones are -1.
    """

    name: str
    type: str = UNKNOWN
    format: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Layer:
    """A layer of an engine.

    Attributes:
        name: Its name in the engine.
        type: The runtime's name of the operation, e.g. ``"CaskConvolution"``.
        inputs: What it reads.
        outputs: What it writes.
        nodes: ONNX nodes that it computes, as far as they are told; none for a copy.
        tactic: Name of the kernel.
        weights: Type of its weights.
        ms: Time of one run in milliseconds, None where it is not told.
        own_precision: The type that it computes in where its runtime tells that and not its tensors' types.
    """

    name: str
    type: str = UNKNOWN
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    nodes: tuple[str, ...] = ()
    tactic: str = ""
    weights: str = UNKNOWN
    ms: float | None = None
    own_precision: str = UNKNOWN

    @property
    def precision_in(self) -> str:
        """Types of what it reads, e.g. ``"i8"`` or ``"i8+f16"``; what it computes in where no tensor tells."""
        return _joined(self.inputs) or self.own_precision

    @property
    def precision_out(self) -> str:
        """Types of what it writes."""
        return _joined(self.outputs) or UNKNOWN

    @property
    def kind(self) -> Kind:
        """Whether it computes, or only copies, quantizes or dequantizes."""
        if _COPY.search(self.name) or self.type == "Reorder":
            return "copy"
        names = [name for name in self.nodes or (self.name,) if not name.endswith((".weight", ".bias"))]
        if names and all(_DEQUANTIZE.search(name) for name in names):
            return "dequantize"
        if names and all(_QUANTIZE.search(name) or _DEQUANTIZE.search(name) for name in names):
            return "quantize"
        return "copy" if _COPY_TYPES.search(self.type) else "compute"

    @property
    def elements(self) -> int | None:
        """How many numbers the largest tensor has that it reads; None where no shape is told, or the batch or size is open."""
        found = [prod(tensor.shape) for tensor in self.inputs if tensor.shape and min(tensor.shape) > 0]
        return max(found, default=None)

    @property
    def multiplies(self) -> bool:
        """Whether it is a convolution or a matrix product, by its type, its name or its kernel."""
        return bool(_WORK.search(f"{self.type} {self.name} {' '.join(self.nodes)} {self.tactic}"))


def shape_of(text: str) -> tuple[int, ...]:
    """Return the sides in a shape as trtexec writes it: ``(1, 64, 8, 8)`` of ``"1,64:32,8,8"``, vectors of 32 channels."""
    sides = [side.partition(":")[0].strip() for side in text.split(",")]
    return tuple(int(side) for side in sides) if all(re.fullmatch(r"-?\d+", side) for side in sides) else ()


def _joined(tensors: tuple[Tensor, ...]) -> str:
    """Return the types that carry data: integers of shapes and indices stand only where nothing else does."""
    known = list(dict.fromkeys(tensor.type for tensor in tensors if tensor.type != UNKNOWN))
    data = [name for name in known if name not in {"i32", "i64", "bool"}]
    return "+".join(data or known)


def nodes_of(name: str) -> tuple[str, ...]:
    """Return the ONNX nodes that the name of a fused layer joins; of a region of many, the first and the last."""
    if _COPY.search(name):
        return ()
    region = re.fullmatch(r"\{?ForeignNode\[(.*?)\.\.\.(.*)\]\}?", name)
    parts = list(region.groups()) if region else re.split(r" \+ | \|\| ", name)
    parts = [part for whole in parts for part in whole.split("PWN(")]
    found = (_balanced(part.strip().rstrip(",")) for whole in parts for part in whole.split(", "))
    return tuple(dict.fromkeys(_CLONE.sub("", part) for part in found if part))


def _balanced(text: str) -> str:
    while text.endswith(")") and text.count(")") > text.count("("):
        text = text[:-1].rstrip()
    return text
