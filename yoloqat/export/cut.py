"""A QDQ graph cut at its quantizers, so that each piece can be fed and compared by itself."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from yoloqat.errors import ExportError
from yoloqat.export.graph import DEQUANTIZE, QUANTIZE, consumers, copy_of, initializers, producers, replace_nodes


@dataclass(frozen=True)
class Cut:
    """One place where the graph was cut.

    Attributes:
        tensor: Name of the quantized tensor in the uncut graph.
        layers: Names of the nodes that read it through this quantizer.
        quantizer: Name of the QuantizeLinear.
        feed: Name of the graph input that takes the tensor's float values.
        codes: Name of the graph output with the codes of the computed tensor; None for a graph input, which nothing
            computes.
    """

    tensor: str
    layers: tuple[str, ...]
    quantizer: str
    feed: str
    codes: str | None


def _readers_behind(codes: str, readers: dict[str, list[onnx.NodeProto]]) -> tuple[str, ...]:
    names: list[str] = []
    for node in readers.get(codes, []):
        behind = readers.get(node.output[0], []) if node.op_type == DEQUANTIZE else [node]
        names.extend(reader.name for reader in behind)
    return tuple(dict.fromkeys(names))


def _value_info(graph: onnx.GraphProto, tensor: str, name: str) -> onnx.ValueInfoProto:
    known = next((v for v in (*graph.value_info, *graph.input, *graph.output) if v.name == tensor), None)
    if known is None:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    value = onnx.ValueInfoProto()
    value.CopyFrom(known)
    value.name = name
    return value


def cut_at_quantizers(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Cut]]:
    """Make every quantized activation a graph input, and an output with the codes of what the graph computed for it.

    Fed with torch's own tensors, the cut graph tests each piece between quantizers by itself: one flipped rounding
    cannot cascade into the next piece. The outputs of the graph stay.

    Args:
        model: A QDQ graph.

    Returns:
        The cut graph and its places, in graph order. A tensor with several quantizers has one place for each, with
        the same feed.

    Raises:
        ExportError: The graph quantizes no activation.
    """
    result = copy_of(model)
    graph = result.graph
    constants = initializers(graph)
    readers = consumers(graph)
    made = producers(graph)
    quantizers = [n for n in graph.node if n.op_type == QUANTIZE and n.input[0] not in constants]
    if not quantizers:
        raise ExportError(
            f"the graph '{graph.name}' has no {QUANTIZE} on an activation",
            expected="a QDQ graph",
            mend="export it with quantized layers",
        )
    feeds = {n.input[0]: f"{n.input[0]}/fed" if n.input[0] in made else n.input[0] for n in quantizers}
    cuts: list[Cut] = []
    probes: list[onnx.NodeProto] = []
    for node in quantizers:
        tensor = node.input[0]
        codes = f"{node.output[0]}/computed" if tensor in made else None
        cuts.append(Cut(tensor, _readers_behind(node.output[0], readers), node.name, feeds[tensor], codes))
        if codes is not None:
            probe = onnx.NodeProto()
            probe.CopyFrom(node)
            probe.name, probe.output[0] = f"{node.name}/computed", codes
            probes.append(probe)
    for tensor, feed in feeds.items():
        if feed != tensor:
            graph.input.append(_value_info(graph, tensor, feed))
    for node in graph.node:
        node.input[:] = [feeds.get(name, name) for name in node.input]
    replace_nodes(graph, [*graph.node, *probes])
    for node in probes:
        point = constants.get(node.input[2]) if len(node.input) > 2 else None
        kind = point.data_type if point is not None else TensorProto.UINT8
        shape = _value_info(graph, node.input[0], node.output[0])
        shape.type.tensor_type.elem_type = kind
        graph.output.append(shape)
    return result, cuts
