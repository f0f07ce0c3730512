"""What stays float at the end of a detector: the layers that give the predictions, and what follows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from yoloqat.errors import PatternError
from yoloqat.onnx_graph.index import Index, downstream_of
from yoloqat.onnx_graph.operators import KEEPS_ORDER
from yoloqat.onnx_quant.float_graph import node_path
from yoloqat.quant.patterns import nearest_names

LAST, EXPECTATION, BEHIND = "gives the predictions", "fixed expectation over box distances", "behind the heads"
_SHAPES = frozenset({"Shape", "Size"})
_BEFORE_EXPECTATION = (*KEEPS_ORDER, "Transpose")


def head_reasons(index: Index, layers: Mapping[str, str], outputs: Sequence[str] = ()) -> dict[str, str]:
    """Return the layers that stay float because of where they are, each with the reason.

    From each head the way leads back to the first layers: these give the predictions. The fixed convolution of a DFL, which
    follows a Softmax, is passed: the layers before it give the box distances.

    Args:
        index: Of a graph in normal form.
        layers: Name of each layer's node to the layer, see :func:`yoloqat.onnx_quant.float_graph.layer_nodes`.
        outputs: Tensors or nodes that are the heads; the graph's own outputs where none are named. Layers behind them stay
            float too.

    Raises:
        PatternError: There is no such tensor or node.
    """
    heads = [tensor for name in outputs for tensor in _tensors_named(index, name)] or list(index.outputs)
    behind = downstream_of(index, lambda node: any(name in heads for name in node.output)) if outputs else frozenset()
    reasons = {
        layers[node.name]: BEHIND
        for node in index.nodes
        if node.name in layers and any(name in behind for name in node.input)
    }
    waiting, seen = list(heads), set(heads)
    while waiting:
        node = index.made.get(waiting.pop())
        if node is None or node.op_type in _SHAPES:
            continue
        read = list(node.input)
        if node.name in layers:
            fixed = _follows_softmax(index, node)
            reasons[layers[node.name]] = EXPECTATION if fixed else LAST
            read = read[:1] if fixed else []
        waiting += [name for name in read if name not in seen]
        seen.update(read)
    return reasons


def _tensors_named(index: Index, name: str) -> list[str]:
    if name in index.made or name in index.inputs:
        return [name]
    found = [tensor for node in index.nodes if _is_named(node, name) for tensor in node.output if tensor]
    if not found:
        known = {*index.made, *(node.name for node in index.nodes)}
        raise PatternError(
            f"outputs names '{name}', which is no tensor and no node of the graph",
            expected="the tensors at which the heads end",
            hint=nearest_names(name, known, what="tensors and nodes"),
        )
    return found


def _is_named(node: onnx.NodeProto, name: str) -> bool:
    """Return whether a node has a name in the file, or in normal form, where that of a layer is a path."""
    return node.name in (name, node_path(onnx.NodeProto(name=name, op_type=node.op_type), 0))


def _follows_softmax(index: Index, node: onnx.NodeProto) -> bool:
    maker = index.maker(node.input[0], *_BEFORE_EXPECTATION)
    return maker is not None and maker.op_type == "Softmax"
