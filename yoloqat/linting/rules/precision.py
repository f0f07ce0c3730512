"""Rules about what the engine pays beside its INT8 layers: FP32 between them, and parts of concats that are copied."""

from __future__ import annotations

from onnx import TensorProto

from yoloqat.config.target import TENSORRT
from yoloqat.linting.finding import Hit, gathered
from yoloqat.linting.graph import Graph
from yoloqat.onnx_graph.graph import label
from yoloqat.onnx_graph.index import downstream_of, upstream_of

BLOCK = 32
"""Channels that lie beside each other in an INT8 tensor."""
_ACTIVATIONS = frozenset({"Sigmoid", "Relu", "LeakyRelu", "HardSwish", "HardSigmoid", "Clip", "Mul", "Add"})


def _for_tensorrt(graph: Graph) -> bool:
    return graph.meant_for in (None, TENSORRT)


def fp32_remainder(graph: Graph) -> list[Hit]:
    """Find float layers and softmaxes between quantized layers of a file whose scales are FP32.

    What an engine fuses into a quantized convolution, its activation and its Add, is not counted.
    """
    scales = {graph.index.kind(qdq.node.input[1]) for qdq in graph.activation_quantizers}
    if not _for_tensorrt(graph) or scales != {TensorProto.FLOAT}:
        return []
    quantized = {id(layer.node) for layer in graph.layers if layer.quantized}
    floats = {id(layer.node) for layer in graph.layers if not layer.quantized and not layer.weight_quantized}
    behind = downstream_of(graph.index, lambda node: id(node) in quantized)
    before = upstream_of(graph.index, lambda node: id(node) in quantized)
    found = []
    for node in graph.index.nodes:
        counted = (id(node) in floats or node.op_type == "Softmax") and node.input and node.output
        if counted and node.input[0] in behind and node.output[0] in before:
            found.append((label(node), ""))
    return gathered("FP32 runs between quantized layers", found)


def concat_channels(graph: Graph) -> list[Hit]:
    """Find concats of quantized convolutions whose parts, all but the last, have no multiple of 32 channels."""
    if not _for_tensorrt(graph):
        return []
    channels = {layer.node.output[0]: layer.channels[1] for layer in graph.layers if layer.quantized and layer.channels}
    for node in graph.index.nodes:  # an activation and an Add keep the channels; half of a tensor is what a Split gives
        known = [channels[name] for name in node.input if name in channels]
        if node.op_type in _ACTIVATIONS and known and node.output:
            channels.setdefault(node.output[0], known[0])
        elif node.op_type == "Split" and known:
            channels.update((name, known[0] // len(node.output)) for name in node.output)
    found = []
    for node in graph.index.nodes:
        if node.op_type != "Concat" or not node.output:
            continue
        if not any(qdq.data == node.output[0] for qdq in graph.activation_quantizers):
            continue
        odd = [channels[name] for name in node.input[:-1] if channels.get(name, 0) % BLOCK]
        if odd:
            found.append((label(node), f"has a part of {odd[0]}"))
    return gathered(f"parts of quantized concats are no multiple of {BLOCK} channels", found)
