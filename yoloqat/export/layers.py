"""Map the nodes of a traced graph to the layers of the module."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping, Sequence

import onnx

from yoloqat.errors import ExportError
from yoloqat.onnx_graph.graph import PassResult, copy_of, initializers
from yoloqat.onnx_graph.operators import LAYER_OPS

_SCOPES = "pkg.torch.onnx.name_scopes"
_SUFFIX = ".weight"


def scope_of(node: onnx.NodeProto) -> str | None:
    """Return the module path that the tracer wrote beside ``node``, e.g. ``"model.22.cv2.0"``."""
    text = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), None)
    if text is None:
        return None
    path = ""
    for part in ast.literal_eval(text)[:-1]:
        # a part is either the whole path so far or only what it adds
        path = part if not path or part.startswith(f"{path}.") else f"{path}.{part}"
    return path or None


def layer_of(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> str | None:
    """Return the qualified name of the module that ``node`` computes, or None where it is no weighted layer.

    A layer is known by the weight it reads (``model.0.conv.weight``). The exporter transposes a linear layer's weight
    and renames it; then the module path in the node's metadata identifies the layer.
    """
    if node.op_type not in LAYER_OPS or len(node.input) < 2 or node.input[1] not in constants:
        return None
    weight = node.input[1]
    return weight.removesuffix(_SUFFIX) if weight.endswith(_SUFFIX) else scope_of(node)


def name_layers(model: onnx.ModelProto) -> PassResult:
    """Name every weighted node after its module, so that engines report layers by the names users know.

    A module that is applied more than once gives ``name``, ``name_1``, ...

    Requires:
        A graph as traced: float weights are initialisers, nodes still carry the tracer's metadata.

    Ensures:
        Each weighted node is named after its module; nothing else changes.
    """
    constants = initializers(model.graph)
    names: dict[int, str] = {}
    seen: dict[str, int] = defaultdict(int)
    for index, node in enumerate(model.graph.node):
        layer = layer_of(node, constants)
        if layer:
            names[index] = f"{layer}_{seen[layer]}" if seen[layer] else layer
            seen[layer] += 1
    if all(model.graph.node[index].name == name for index, name in names.items()):
        return PassResult(model, modified=False)
    result = copy_of(model)
    for index, name in names.items():
        result.graph.node[index].name = name
    return PassResult(result, modified=True)


def strip_trace(model: onnx.ModelProto) -> PassResult:
    """Remove the tracer's notes about Python sources: an artifact holds no file paths of the machine.

    Requires:
        Nothing.

    Ensures:
        No node, value or initialiser carries metadata or a doc string; the model's own metadata stays; the IR version
        is at most 10, which engines of the last years read.
    """
    result = copy_of(model)
    graph = result.graph
    for entry in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        entry.ClearField("doc_string")
        entry.ClearField("metadata_props")
    result.ir_version = min(result.ir_version, 10)
    modified = result.SerializeToString(deterministic=True) != model.SerializeToString(deterministic=True)
    return PassResult(result if modified else model, modified=modified)


def nodes_of(model: onnx.ModelProto, layers: Sequence[str]) -> dict[str, list[int]]:
    """Return for each of ``layers`` the indices of its nodes, in graph order.

    Raises:
        ExportError: A layer has no Conv, ConvTranspose, Gemm or MatMul in the graph, or is given twice.
    """
    constants = initializers(model.graph)
    found: dict[str, list[int]] = defaultdict(list)
    for index, node in enumerate(model.graph.node):
        layer = layer_of(node, constants)
        if layer:
            found[layer].append(index)
    twice = sorted({name for name in layers if layers.count(name) > 1})
    if twice:
        raise ExportError(
            f"layer '{twice[0]}' is given twice", expected="each layer once", hint="leave one of the two out"
        )
    missing = [name for name in layers if name not in found]
    if missing:
        raise ExportError(
            f"layer '{missing[0]}' has no Conv, ConvTranspose, Gemm or MatMul in the graph",
            expected=f"one of the {len(found)} layers that the graph has",
            hint="leave it float",
        )
    return {name: found[name] for name in layers}
