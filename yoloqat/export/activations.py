"""The pass that turns the markers of a traced graph into quantizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

from yoloqat.errors import ExportError
from yoloqat.export.checks import check_activation, scale_tensor, zero_point_tensor
from yoloqat.export.markers import DOMAIN, marker_name
from yoloqat.onnx_graph.graph import copy_of, free_name, remove_unread_initializers, replace_nodes
from yoloqat.onnx_graph.operators import DEQUANTIZE, QUANTIZE
from yoloqat.quant.numbers import TensorNumbers


@dataclass(frozen=True)
class Placed:
    """What :func:`place_quantizers` gives back.

    Attributes:
        model: The model with one Q/DQ pair per quantized tensor and scale.
        modified: Whether there were markers.
        quantizers: Name of each QuantizeLinear, to the site it is named after.
        aliases: Name of the quantizer that a reader would have had by itself, to the name of the one it uses, for every
            reader of a tensor but the first.
    """

    model: onnx.ModelProto
    modified: bool
    quantizers: dict[str, str]
    aliases: dict[str, str]


def _pair(prefix: str, tensor: str, numbers: TensorNumbers) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    scale, point = f"{prefix}/scale", f"{prefix}/zero_point"
    codes, output = f"{prefix}/codes", f"{prefix}/dequantized"
    nodes = [
        helper.make_node(QUANTIZE, [tensor, scale, point], [codes], name=f"{prefix}/{QUANTIZE}"),
        helper.make_node(DEQUANTIZE, [codes, scale, point], [output], name=f"{prefix}/{DEQUANTIZE}"),
    ]
    return nodes, [scale_tensor(scale, numbers), zero_point_tensor(point, numbers)]


def quantizer_prefix(site: str) -> str:
    """Return what the quantizer of a site is named after: ``model.0.conv/input`` of ``model.0.conv._input_quantizer``."""
    path, _, attribute = site.rpartition(".")
    return f"{path}/{attribute.removeprefix('_').removesuffix('_quantizer')}"


def place_quantizers(model: onnx.ModelProto, numbers: Mapping[str, TensorNumbers]) -> Placed:
    """Replace each marker by a QuantizeLinear and a DequantizeLinear, one pair for all readers of a tensor with one scale.

    A pair is named after the first site that reads it: ``<layer>/input/QuantizeLinear``, or ``<block>/residual/...`` for the
    Add of a block; at a module that is applied again to another tensor ``<layer>/input_1/...``. Scales are scalar float32,
    zero-points int8, or uint8 where the scheme is unsigned.

    Requires:
        A graph as traced with its markers; nodes are in topological order.

    Ensures:
        No marker is left, and no trace of their domain; every reader of a marker reads a DequantizeLinear; no two
        quantizers read the same tensor with the same numbers; nodes are in topological order.

    Raises:
        ExportError: A marker's quantizer has no numbers, or they cannot be written.
    """
    if not any(marker_name(node) is not None for node in model.graph.node):
        return Placed(model, modified=False, quantizers={}, aliases={})
    result = copy_of(model)
    graph = result.graph
    placed: dict[tuple[Any, ...], str] = {}
    quantizers: dict[str, str] = {}
    renamed: dict[str, str] = {}
    aliases: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        site = marker_name(node)
        if site is None:
            nodes.append(node)
            continue
        if site not in numbers:
            raise ExportError(
                f"quantizer '{site}' of tensor '{node.input[0]}' has no numbers",
                expected="the numbers of every quantizer that is switched on",
                hint="calibrate the model that is exported",
            )
        own = numbers[site]
        check_activation(site, own)
        key = (node.input[0], own.scheme, own.scale.item(), own.zero_point.item())
        if key in placed:
            aliases[f"{quantizer_prefix(site)}/{QUANTIZE}"] = f"{placed[key]}/{QUANTIZE}"
        else:
            prefix, taken = quantizer_prefix(site), placed.values()
            placed[key] = free_name(prefix, taken) if prefix in taken else prefix
            quantizers[f"{placed[key]}/{QUANTIZE}"] = site
            pair, tensors = _pair(placed[key], node.input[0], own)
            nodes += pair
            graph.initializer.extend(tensors)
        renamed[node.output[0]] = f"{placed[key]}/dequantized"
    for value in graph.output:
        if value.name in renamed:
            identity = helper.make_node("Identity", [renamed[value.name]], [value.name], name=f"{value.name}/Identity")
            nodes.append(identity)
    replace_nodes(graph, nodes)
    remove_unread_initializers(graph, list(renamed))
    kept = [entry for entry in result.opset_import if entry.domain != DOMAIN]
    del result.opset_import[:]
    result.opset_import.extend(kept)
    return Placed(result, modified=True, quantizers=quantizers, aliases=aliases)
