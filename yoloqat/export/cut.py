"""Cut a QDQ graph at its quantizers, so that each piece can be fed and compared alone."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from yoloqat.errors import ExportError
from yoloqat.onnx_graph.graph import consumers, copy_of, initializers, replace_nodes
from yoloqat.onnx_graph.operators import DEQUANTIZE, QUANTIZE


@dataclass(frozen=True)
class Cut:
    """One place where the graph was cut.

    Attributes:
        tensor: Name of the quantized tensor in the uncut graph.
        layers: Names of the nodes that read it through this quantizer.
        quantizer: Name of the QuantizeLinear.
        feed: Name of the graph input that the QuantizeLinear reads: the values as the quantized layers see them.
        raw: Name of the graph input for readers of the unquantized tensor (a residual, a concat); None without any.
        integers: Name of the graph output with the integers of the tensor that the graph computed.
    """

    tensor: str
    layers: tuple[str, ...]
    quantizer: str
    feed: str
    raw: str | None
    integers: str


def _readers_behind(integers: str, readers: dict[str, list[onnx.NodeProto]]) -> tuple[str, ...]:
    names: list[str] = []
    for node in readers.get(integers, []):
        behind = readers.get(node.output[0], []) if node.op_type == DEQUANTIZE else [node]
        names.extend(reader.name for reader in behind)
    return tuple(dict.fromkeys(names))


def _value_info(graph: onnx.GraphProto, tensor: str, name: str) -> onnx.ValueInfoProto:
    known = next((v for v in (*graph.value_info, *graph.input, *graph.output) if v.name == tensor), None)
    if known is None:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    value: onnx.ValueInfoProto = copy_of(known)
    value.name = name
    return value


def cut_at_quantizers(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Cut]]:
    """Make every quantized activation a graph input, and add an output with the integers that the graph computes for it.

    Fed with torch's own tensors, the cut graph tests each piece between quantizers by itself. A quantizer is fed apart from
    the other readers of its tensor, so that it can get values that are already fake-quantized: a value half way between two
    integers, which two runtimes may round apart, then counts once, in the integers of the tensor, and does not reach the next
    piece. The outputs of the graph stay.

    Args:
        model: A QDQ graph.

    Returns:
        The cut graph and its places, in graph order. A tensor with several quantizers has one place for each, with
        the same ``raw``.

    Raises:
        ExportError: The graph quantizes no activation.
    """
    result = copy_of(model)
    graph = result.graph
    constants = initializers(graph)
    readers = consumers(graph.node)
    inputs = {value.name for value in graph.input}
    quantizers = [n for n in graph.node if n.op_type == QUANTIZE and n.input[0] not in constants]
    if not quantizers:
        raise ExportError(
            f"the graph '{graph.name}' has no {QUANTIZE} on an activation",
            expected="a QDQ graph",
            hint="export it with quantized layers",
        )
    quantized = {node.input[0] for node in quantizers}
    raw: dict[str, str] = {}
    for tensor in dict.fromkeys(node.input[0] for node in quantizers):
        if tensor in inputs:
            raw[tensor] = tensor
        elif any(reader.op_type != QUANTIZE for reader in readers.get(tensor, [])):
            raw[tensor] = f"{tensor}/raw"
            graph.input.append(_value_info(graph, tensor, raw[tensor]))
    cuts: list[Cut] = []
    probes: list[onnx.NodeProto] = []
    feeds: dict[str, str] = {}
    for node in quantizers:
        tensor = node.input[0]
        feeds[node.name] = f"{node.name}/fed"
        graph.input.append(_value_info(graph, tensor, feeds[node.name]))
        integers = f"{node.output[0]}/computed"
        layers = _readers_behind(node.output[0], readers)
        cuts.append(Cut(tensor, layers, node.name, feeds[node.name], raw.get(tensor), integers))
        probe = copy_of(node)
        probe.name, probe.output[0] = f"{node.name}/computed", integers
        probes.append(probe)
    for node in graph.node:
        if node.name in feeds:
            node.input[0] = feeds[node.name]
        else:
            node.input[:] = [raw[name] if name in quantized else name for name in node.input]
    replace_nodes(graph, [*graph.node, *probes])
    for node in probes:
        point = constants.get(node.input[2]) if len(node.input) > 2 else None
        kind = point.data_type if point is not None else TensorProto.UINT8
        shape = _value_info(graph, node.input[0], node.output[0])
        shape.type.tensor_type.elem_type = kind
        graph.output.append(shape)
    return result, cuts
