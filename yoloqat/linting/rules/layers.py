"""Rules about weighted layers: what is quantized of them, groups, channels."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import TensorProto

from yoloqat.linting.finding import Hit, gathered
from yoloqat.linting.graph import Graph
from yoloqat.linting.layers import Layer
from yoloqat.linting.rules.head import predictions
from yoloqat.linting.rules.qparams import OTHER_PRECISIONS
from yoloqat.onnx_graph.index import downstream_of, upstream_of
from yoloqat.onnx_graph.operators import QUANTIZE

GROUP_CHANNELS = 4
ALIGNMENT = 16


def _only_for_float_weights(graph: Graph, layer: Layer) -> bool:
    """Return whether the Q/DQ before ``layer`` serves nothing but layers with float weights."""
    maker = graph.index.maker(layer.data, "Identity", "Cast")
    qdq = graph.giving.get(maker.output[0]) if maker is not None and maker.output else None
    if qdq is None or qdq.quantizes:
        return False
    origin = graph.index.made.get(qdq.data)
    quantizer = graph.giving.get(qdq.data) if origin is not None and origin.op_type == QUANTIZE else None
    readers = graph.readers_behind(quantizer) if quantizer is not None else graph.index.readers.get(qdq.result, ())
    found = [graph.layer_of(node) for node in readers]
    return all(other is not None and not other.weight_quantized for other in found)


def half_quantized(graph: Graph) -> Iterator[Hit]:
    """Find layers of which only the weight or only the activation is quantized.

    An activation that is quantized for others too may be read by a float layer: that is how one leaves a layer float.
    """
    weights, activations = [], []
    for layer in graph.layers:
        if layer.weight_quantized and not layer.data_quantized:
            qdq = layer.weight_dequantizer
            if qdq is None or qdq.element_type not in OTHER_PRECISIONS:
                weights.append((layer.name, f"reads '{layer.data}' unquantized"))
        elif layer.data_quantized and not layer.weight_quantized and _only_for_float_weights(graph, layer):
            activations.append((layer.name, f"reads the weight '{layer.weight}' unquantized"))
    yield from gathered("layers have a quantized weight and a float activation", weights)
    yield from gathered("layers have a quantized activation and a float weight", activations)


def bias(graph: Graph) -> list[Hit]:
    """Find quantized biases: what a layer reads as one, and INT32 anywhere."""
    found = {}
    for layer in graph.layers:
        maker = graph.index.maker(layer.bias, "Identity", "Cast") if layer.bias else None
        qdq = graph.giving.get(maker.output[0]) if maker is not None and maker.output else None
        if qdq is not None and not qdq.quantizes:
            found[qdq.name] = f"gives the bias of '{layer.name}'"
    for qdq in graph.qdq_nodes:
        if qdq.element_type == TensorProto.INT32:
            found.setdefault(qdq.name, "reads INT32")
    order = [qdq.name for qdq in graph.qdq_nodes if qdq.name in found]
    return gathered("biases are quantized", [(name, found[name]) for name in order])


def _odd_groups(layer: Layer) -> tuple[int, int] | None:
    """Return the channels of one group, for input and output, where one of them is no multiple of 4."""
    if layer.group <= 1 or layer.channels is None:
        return None
    before, after = (channels // layer.group for channels in layer.channels)
    return (before, after) if before % GROUP_CHANNELS or after % GROUP_CHANNELS else None


def grouped(graph: Graph) -> list[Hit]:
    """Find quantized grouped convolutions whose groups are not multiples of 4 channels; depthwise has its own rule."""
    odd = [(layer, _odd_groups(layer)) for layer in graph.layers if layer.quantized and not layer.depthwise]
    return gathered(
        f"groups of quantized convolutions are not multiples of {GROUP_CHANNELS} channels",
        [(layer.name, f"has {layer.group} groups of {per[0]} to {per[1]} channels") for layer, per in odd if per],
    )


def depthwise(graph: Graph) -> list[Hit]:
    """Find quantized depthwise convolutions, without those that read what another quantized layer reads.

    In float those would have what makes their input write float for them.
    """
    beside = {layer.data for layer in graph.layers if layer.quantized and not layer.depthwise}
    found = [layer for layer in graph.layers if layer.quantized and layer.depthwise and layer.data not in beside]
    return gathered(
        "depthwise convolutions are quantized", [(layer.name, f"has {layer.group} groups") for layer in found]
    )


def alignment(graph: Graph) -> list[Hit]:
    """Find quantized convolutions whose channels are no multiple of 16.

    The channels of the image itself and of the predictions are nobody's choice and not counted, nor are depthwise
    convolutions.
    """
    last = predictions(graph)
    behind = downstream_of(graph.index, lambda node: graph.layer_of(node) is not None)
    found = []
    for layer in graph.layers:
        if not layer.quantized or layer.channels is None or layer.depthwise:
            continue
        before, after = layer.channels
        odd_after = after % ALIGNMENT and layer.name not in last
        if odd_after or (before % ALIGNMENT and layer.data in behind):
            found.append((layer.name, f"has {before} to {after}"))
    return gathered(f"channels of quantized convolutions are no multiple of {ALIGNMENT}", found)


def islands(graph: Graph) -> list[Hit]:
    """Find float layers that have quantized layers before and behind them.

    Depthwise convolutions, those with groups of no multiple of 4 channels and products of two activations are not counted:
    those one leaves float.
    """
    quantized = {id(layer.node) for layer in graph.layers if layer.quantized}
    behind = downstream_of(graph.index, lambda node: id(node) in quantized)
    before = upstream_of(graph.index, lambda node: id(node) in quantized)
    found = []
    for layer in graph.layers:
        if layer.quantized or layer.weight_quantized or not layer.weight_constant or _odd_groups(layer):
            continue
        if layer.data in behind and layer.node.output[0] in before:
            found.append((layer.name, ""))
    return gathered("float layers stand between quantized ones", found)
