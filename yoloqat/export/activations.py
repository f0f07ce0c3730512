"""The pass that inserts a Q/DQ pair for each quantizer placeholder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

from yoloqat.errors import ExportError
from yoloqat.export.checks import check_activation, scale_tensor, zero_point_tensor
from yoloqat.export.placeholders import DOMAIN, placeholder_name
from yoloqat.onnx_graph.graph import copy_of, free_name, remove_unread_initializers, replace_nodes
from yoloqat.onnx_graph.operators import DEQUANTIZE, QUANTIZE
from yoloqat.quant.qparams import TensorQParams


@dataclass(frozen=True)
class InsertedQDQ:
    """Result of :func:`insert_qdq`.

    Attributes:
        model: The model with one Q/DQ pair per quantized tensor and scale.
        modified: True when the graph had placeholders.
        quantizers: Maps the name of each QuantizeLinear to the location it is named after.
        aliases: Maps the name of the quantizer that a reader would have alone to the name of the one it uses, for every
            reader of a tensor but the first.
    """

    model: onnx.ModelProto
    modified: bool
    quantizers: dict[str, str]
    aliases: dict[str, str]


def _pair(prefix: str, tensor: str, qparams: TensorQParams) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    scale, point = f"{prefix}/scale", f"{prefix}/zero_point"
    integers, output = f"{prefix}/codes", f"{prefix}/dequantized"
    nodes = [
        helper.make_node(QUANTIZE, [tensor, scale, point], [integers], name=f"{prefix}/{QUANTIZE}"),
        helper.make_node(DEQUANTIZE, [integers, scale, point], [output], name=f"{prefix}/{DEQUANTIZE}"),
    ]
    return nodes, [scale_tensor(scale, qparams), zero_point_tensor(point, qparams)]


def quantizer_prefix(location: str) -> str:
    """Return the prefix of the Q/DQ names of a location: ``model.0.conv/input`` of ``model.0.conv._input_quantizer``."""
    path, _, attribute = location.rpartition(".")
    return f"{path}/{attribute.removeprefix('_').removesuffix('_quantizer')}"


def insert_qdq(model: onnx.ModelProto, qparams: Mapping[str, TensorQParams]) -> InsertedQDQ:
    """Replace each placeholder by a QuantizeLinear and a DequantizeLinear, one pair for all readers of a tensor with one scale.

    A pair is named after the first location that reads it: ``<layer>/input/QuantizeLinear``, or ``<block>/residual/...`` for the
    Add of a block; at a module that is applied again to another tensor ``<layer>/input_1/...``. Scales are scalar float32,
    zero-points int8, or uint8 where the scheme is unsigned.

    Requires:
        A graph as traced with its placeholders; nodes are in topological order.

    Ensures:
        No placeholder and no import of its domain is left; every reader of a placeholder reads a DequantizeLinear; no two
        quantizers read the same tensor with the same qparams; nodes are in topological order.

    Raises:
        ExportError: A placeholder's quantizer has no qparams, or they cannot be written.
    """
    if not any(placeholder_name(node) is not None for node in model.graph.node):
        return InsertedQDQ(model, modified=False, quantizers={}, aliases={})
    result = copy_of(model)
    graph = result.graph
    inserted: dict[tuple[Any, ...], str] = {}
    quantizers: dict[str, str] = {}
    renamed: dict[str, str] = {}
    aliases: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        location = placeholder_name(node)
        if location is None:
            nodes.append(node)
            continue
        if location not in qparams:
            raise ExportError(
                f"quantizer '{location}' of tensor '{node.input[0]}' has no qparams",
                expected="the qparams of every quantizer that is switched on",
                hint="calibrate the model that is exported",
            )
        own = qparams[location]
        check_activation(location, own)
        key = (node.input[0], own.scheme, own.scale.item(), own.zero_point.item())
        if key in inserted:
            aliases[f"{quantizer_prefix(location)}/{QUANTIZE}"] = f"{inserted[key]}/{QUANTIZE}"
        else:
            prefix, taken = quantizer_prefix(location), inserted.values()
            inserted[key] = free_name(prefix, taken) if prefix in taken else prefix
            quantizers[f"{inserted[key]}/{QUANTIZE}"] = location
            pair, tensors = _pair(inserted[key], node.input[0], own)
            nodes += pair
            graph.initializer.extend(tensors)
        renamed[node.output[0]] = f"{inserted[key]}/dequantized"
    for value in graph.output:
        if value.name in renamed:
            identity = helper.make_node("Identity", [renamed[value.name]], [value.name], name=f"{value.name}/Identity")
            nodes.append(identity)
    replace_nodes(graph, nodes)
    remove_unread_initializers(graph, list(renamed))
    kept = [entry for entry in result.opset_import if entry.domain != DOMAIN]
    del result.opset_import[:]
    result.opset_import.extend(kept)
    return InsertedQDQ(result, modified=True, quantizers=quantizers, aliases=aliases)
