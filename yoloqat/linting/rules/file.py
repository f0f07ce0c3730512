"""Rules about the file as a whole: is it a graph, which operators, which version."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import TensorProto

from yoloqat.linting.finding import Hit, gathered
from yoloqat.linting.graph import Graph
from yoloqat.linting.qdq_nodes import CONTRIB, QdqNode
from yoloqat.onnx_graph.graph import label
from yoloqat.onnx_graph.operators import STANDARD

# ONNX Runtime's own domain has many more; these are the ones without "QLinear" in the name
_STANDARD_INTEGER = frozenset({"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"})
_CONTRIB_INTEGER = frozenset(
    {"DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulIntegerToFloat", "QGemm", "QAttention"}
)
_INTEGER = _STANDARD_INTEGER | _CONTRIB_INTEGER
_NARROW: dict[int, tuple[int, str]] = {
    TensorProto.INT4: (21, "INT4"),
    TensorProto.UINT4: (21, "UINT4"),
    TensorProto.FLOAT4E2M1: (23, "FP4"),
    TensorProto.FLOAT8E4M3FN: (19, "FP8"),
}
"""First opset of the types that are newer than Q and DQ."""


def malformed(graph: Graph) -> Iterator[Hit]:
    """Find an empty graph, tensors that nothing makes, tensors made twice, and nodes before what they read."""
    index = graph.index
    if not index.nodes:
        yield Hit((), "the graph has no nodes")
        return
    known = set(index.inputs) | set(index.tensors)
    makes = {name for node in index.nodes for name in node.output}
    dangling, early, twice = [], [], []
    made: set[str] = set()
    for node in index.nodes:
        for name in dict.fromkeys(name for name in node.input if name):
            if name not in known and name not in makes:
                dangling.append((label(node), f"reads '{name}'"))
            elif name not in known and name not in made:
                early.append((label(node), f"reads '{name}'"))
        for name in filter(None, node.output):
            if name in made:
                twice.append((label(node), f"makes '{name}' again"))
            made.add(name)
    yield from gathered("tensors are read that nothing makes", dangling)
    yield from gathered("nodes stand before what they read", early)
    yield from gathered("tensors are made twice", twice)
    missing = [name for name in index.outputs if name not in makes and name not in known]
    if missing:
        yield Hit((), f"nothing makes the output '{missing[0]}'")


def integer_operators(graph: Graph) -> list[Hit]:
    """Find operators that compute with integers themselves instead of Q and DQ around float operators."""
    return gathered(
        "operators compute with integers",
        [
            (label(node), f"is {node.op_type}")
            for node in graph.index.nodes
            if node.op_type in _INTEGER or "QLinear" in node.op_type
        ],
    )


def _needs(qdq: QdqNode) -> tuple[int, str]:
    """Return the first opset that has what ``qdq`` uses, and what that is."""
    if qdq.element_type in _NARROW and not (qdq.blocked and _NARROW[qdq.element_type][0] < 21):
        return _NARROW[qdq.element_type]
    if qdq.blocked:
        return 21, "blocks of scales"
    if qdq.scale is not None and qdq.scale.dtype == "float16":
        return 19, "float16 scales"
    if qdq.per_axis:
        return 13, "scales per channel"
    return 10, "QuantizeLinear and DequantizeLinear"


def opset(graph: Graph) -> Iterator[Hit]:
    """Find an opset that TensorRT does not read, or that has not what the quantizers use."""
    found = graph.index.opset
    if found is None:
        if any(node.domain in STANDARD for node in graph.index.nodes):
            yield Hit((), "the file imports no version of the standard operators")
        return
    low, high = graph.trt_version.opsets
    if not low <= found <= high:
        yield Hit((), f"opset is {found}; {graph.trt_version.title} reads {low} to {high}")
    lacking: dict[tuple[int, str], list[str]] = {}
    for qdq in graph.qdq_nodes:
        needed = _needs(qdq)
        if qdq.node.domain in STANDARD and found < needed[0]:
            lacking.setdefault(needed, []).append(qdq.name)
    for (version, what), names in sorted(lacking.items()):
        yield Hit(tuple(names), f"opset is {found}; {what} came with opset {version}")


def contrib_operators(graph: Graph) -> list[Hit]:
    """Find Q and DQ of ONNX Runtime's own domain."""
    return gathered(
        f"Q and DQ are of the domain {CONTRIB}",
        [(qdq.name, "") for qdq in graph.qdq_nodes if qdq.node.domain == CONTRIB],
    )


def no_quantization(graph: Graph) -> list[Hit]:
    """Find a file without any Q, DQ or integer operator."""
    if not graph.index.nodes or graph.qdq_nodes or integer_operators(graph):
        return []
    return [Hit((), f"none of the {len(graph.index.nodes)} nodes is a QuantizeLinear or DequantizeLinear")]
