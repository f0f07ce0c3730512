"""Rules about a detector's head: what gives the predictions stays float."""

from __future__ import annotations

from yoloqat.linting.finding import Hit, gathered
from yoloqat.linting.graph import Graph
from yoloqat.linting.layers import Layer
from yoloqat.onnx_graph.index import downstream_of, upstream_of
from yoloqat.onnx_graph.operators import DEQUANTIZE, MOVES_VALUES, QUANTIZE


def head_output(graph: Graph) -> list[Hit]:
    """Find QuantizeLinear nodes behind the last weighted layer, whose integers only the outputs read."""
    before = upstream_of(graph.index, lambda node: graph.layer_of(node) is not None)
    behind = downstream_of(graph.index, lambda node: graph.layer_of(node) is not None)
    to_output = set(graph.index.outputs)
    ends = upstream_of(graph.index, lambda node: any(name in to_output for name in node.output))
    return gathered(
        "outputs are quantized behind the last layer",
        [
            (qdq.name, f"quantizes '{qdq.data}'")
            for qdq in graph.activation_quantizers
            if qdq.data in behind and qdq.data not in before and qdq.data in ends
        ],
    )


def _is_expectation(graph: Graph, layer: Layer) -> bool:
    """Return whether ``layer`` is a DFL: a convolution to one channel over a softmax."""
    maker = graph.index.maker(layer.data, QUANTIZE, DEQUANTIZE, *MOVES_VALUES)
    return maker is not None and maker.op_type == "Softmax" and layer.channels is not None and layer.channels[1] == 1


def predictions(graph: Graph) -> dict[str, str]:
    """Return the convolutions that give the predictions by name, and what is special about them.

    No weighted layer follows them but a DFL, or they are one.
    """
    expectations = {layer.name for layer in graph.layers if _is_expectation(graph, layer)}
    others = {id(layer.node) for layer in graph.layers if layer.name not in expectations}
    before = upstream_of(graph.index, lambda node: id(node) in others)
    return {
        layer.name: "is a DFL" if layer.name in expectations else ""
        for layer in graph.layers
        if layer.convolution and (layer.name in expectations or layer.node.output[0] not in before)
    }


def head_layer(graph: Graph) -> list[Hit]:
    """Find quantized convolutions that give the predictions."""
    last = predictions(graph)
    return gathered(
        "convolutions that give the predictions are quantized",
        [(layer.name, last[layer.name]) for layer in graph.layers if layer.quantized and layer.name in last],
    )
