"""The normal form of a float ONNX detector: weights are initialisers named after their layers, nodes after their modules."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, inliner, numpy_helper, version_converter

from yoloqat.errors import ModelError
from yoloqat.onnx_graph.graph import constants, copy_of, free_name, remove_unread_initializers, replace_nodes
from yoloqat.onnx_graph.index import Index, index_of
from yoloqat.onnx_graph.names import module_path
from yoloqat.onnx_graph.operators import CONVOLUTIONS, LAYER_OPS, QUANTIZERS, opset_of

OPSET = 13
"""The first opset whose DequantizeLinear has a scale per channel."""

_SUFFIX = ".weight"
_HINT = "export it in float32, without FP16 or quantization"


def float_graph(model: onnx.ModelProto, source: str, *, opset: int = OPSET) -> onnx.ModelProto:
    """Return the normal form of a float detector; what it computes stays the same.

    A layer is a Conv, ConvTranspose, Gemm or MatMul with a constant weight. Its name is that of its weight without ``.weight``,
    else that of its node as a path: ``model.0.conv`` of ``/model.0/conv/Conv``.

    Args:
        model: As read; it is not changed.
        source: The file, named in errors.
        opset: The least version of the operators; a file of an older one is raised to it.

    Returns:
        A copy. Each layer's weight is an initialiser ``<layer>.weight`` that only the nodes that share it read; every node has a
        name.

    Raises:
        ModelError: The file is quantized already, has no layer or a weight of another type than float32, or its opset cannot
            be raised.
    """
    pairs = sum(node.op_type in QUANTIZERS for node in model.graph.node)
    if pairs:
        raise ModelError(
            f"'{source}' has {pairs} nodes that quantize or dequantize",
            expected="a float ONNX file",
            hint="pass the float file that it was made from",
        )
    result = _raised(inliner.inline_local_functions(model) if model.functions else copy_of(model), source, opset)
    graph = result.graph
    held = constants(graph)
    graph.initializer.extend(_named(tensor, name) for name, tensor in held.items() if name in _made(graph))
    replace_nodes(graph, [node for node in graph.node if not (node.op_type == "Constant" and node.output[0] in held)])
    index = index_of(result)
    weights: dict[str, str] = {}
    names: set[str] = set()
    for number, node in enumerate(graph.node):
        weight = weight_of(index, node)
        if weight is None:
            node.name = _free(node.name or node_path(node, number), names)
            continue
        _check_weight(index.tensors[weight], node, source)
        if weight not in weights:
            wanted = weight.removesuffix(_SUFFIX) if weight.endswith(_SUFFIX) else node_path(node, number)
            weights[weight] = _free(wanted, set(weights.values()))
            graph.initializer.append(_named(index.tensors[weight], f"{weights[weight]}{_SUFFIX}"))
        node.name = _free(weights[weight], names)
        node.input[1] = f"{weights[weight]}{_SUFFIX}"
    if not weights:
        raise ModelError(
            f"'{source}' has {len(weights)} layers with constant weights",
            expected="a detector with convolutions",
            hint="export it with its weights inside",
        )
    _drop_doubles(graph)
    _drop_unread_copies(graph)
    remove_unread_initializers(graph)
    return result


def weight_of(index: Index, node: onnx.NodeProto) -> str | None:
    """Return the name of the constant that a layer's weight comes from, None where ``node`` is no layer."""
    if node.op_type not in LAYER_OPS or len(node.input) < 2:
        return None
    weight = index.origin(node.input[1], "Identity")
    if weight not in index.tensors or index.origin(node.input[0], "Identity") in index.constant:
        return None
    rank = len(index.tensors[weight].dims)
    return weight if (rank >= 3 if node.op_type in CONVOLUTIONS else rank == 2) else None


def layer_nodes(index: Index) -> dict[str, str]:
    """Return the name of each layer's node to the name of the layer, in graph order; the graph is in normal form."""
    found = ((node, weight_of(index, node)) for node in index.nodes)
    return {node.name: weight.removesuffix(_SUFFIX) for node, weight in found if weight is not None}


def node_path(node: onnx.NodeProto, number: int) -> str:
    """Return a node's name as a path of modules: ``model.2.m.0`` of ``/model.2/m.0/Add`` or ``/model.2/m/m.0/Add``.

    Args:
        node: Of any operator.
        number: Its place, where it has no name.
    """
    return module_path(node.name, (node.op_type,)) or f"{node.op_type}_{number}"


def _free(name: str, taken: set[str]) -> str:
    found = free_name(name, taken) if name in taken else name
    taken.add(found)
    return found


def _made(graph: onnx.GraphProto) -> set[str]:
    return {name for node in graph.node for name in node.output}


def _named(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    """Return a tensor under another name, its values as they lie in memory."""
    array = numpy_helper.to_array(tensor)
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def _drop_doubles(graph: onnx.GraphProto) -> None:
    """Keep the last initialiser of each name: a weight that had its layer's name already was written again."""
    last = {tensor.name: tensor for tensor in graph.initializer}
    if len(last) != len(graph.initializer):
        kept = list(last.values())
        copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
        del graph.initializer[:]
        graph.initializer.extend(copies)


def _drop_unread_copies(graph: onnx.GraphProto) -> None:
    """Drop the Identity nodes by which layers shared a weight."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [node for node in graph.node if node.op_type != "Identity" or any(name in read for name in node.output)]
    replace_nodes(graph, kept)


def _check_weight(tensor: onnx.TensorProto, node: onnx.NodeProto, source: str) -> None:
    if tensor.data_type != TensorProto.FLOAT:
        raise ModelError(
            f"the weight '{tensor.name}' of '{source}' is {TensorProto.DataType.Name(tensor.data_type)}",
            expected=f"FLOAT weights of every {node.op_type}",
            hint=_HINT,
        )


def _raised(model: onnx.ModelProto, source: str, wanted: int) -> onnx.ModelProto:
    opset = opset_of(model) or 0
    if opset >= wanted:
        return model
    try:
        return version_converter.convert_version(model, wanted)
    except Exception as error:  # its errors share no other base class
        raise ModelError(
            f"the operators of '{source}', of opset {opset}, cannot be raised to opset {wanted} ({error!s:.200})",
            expected=f"opset {wanted} or later",
            hint=f"export it with opset {wanted}",
        ) from error
