"""The rule about scales that differ where the engine needs one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import onnx

from yoloqat.linting.finding import Hit, gathered
from yoloqat.linting.graph import Graph
from yoloqat.onnx_graph.graph import label
from yoloqat.onnx_graph.groups import Groups
from yoloqat.onnx_graph.operators import moves_values


def _carriers(graph: Graph) -> list[tuple[onnx.NodeProto, list[str]]]:
    """Return the nodes that pass integers on, with the activations that they read and give."""
    found = []
    for node in graph.index.nodes:
        if node.op_type == "Concat":
            read = [name for name in node.input if name not in graph.index.constant]
        elif moves_values(node) and node.input and node.input[0] not in graph.index.constant:
            read = [node.input[0]]
        else:
            continue
        tensors = [name for name in (*read, *node.output) if name]
        if tensors:
            found.append((node, tensors))
    return found


def _scales(graph: Graph) -> dict[str, set[float]]:
    """Return for each activation the scales that it is quantized or was dequantized with."""
    found: dict[str, set[float]] = defaultdict(set)
    for qdq in graph.qdq_nodes:
        if not qdq.weight and qdq.scale is not None and qdq.scale.size == 1:
            value = float(qdq.scale.astype(np.float64).flat[0])
            found[qdq.data if qdq.quantizes else qdq.result].add(value)
    return found


def _at_concat(graph: Graph) -> list[tuple[str, str]]:
    groups, scales = Groups(), _scales(graph)
    carriers = _carriers(graph)
    for _, tensors in carriers:
        groups.join(*tensors)
    values: dict[str, set[float]] = defaultdict(set)
    for name, found in scales.items():
        values[groups.root(name)] |= found
    members: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node, tensors in carriers:
        members[groups.root(tensors[0])].append(node)
    places: list[tuple[str, str]] = []
    for root, nodes in members.items():
        if len(values[root]) > 1:
            low, high = min(values[root]), max(values[root])
            detail = f"joins {len(values[root])} scales from {low:.4g} to {high:.4g}"
            concats = [node for node in nodes if node.op_type == "Concat"]
            places.extend((label(node), detail) for node in concats or nodes)
    return places


def _at_add(graph: Graph) -> list[tuple[str, str]]:
    scales = _scales(graph)
    places: list[tuple[str, str]] = []
    for node in graph.index.nodes:
        if node.op_type == "Add" and len(node.input) == 2 and all(name in graph.dequantized for name in node.input):
            first, second = (scales.get(name, set()) for name in node.input)
            if len(first) == len(second) == 1 and first != second:
                places.append((label(node), f"reads {min(first):.4g} and {min(second):.4g}"))
    return places


def differing_scales(graph: Graph) -> Iterator[Hit]:
    """Find several scales among tensors that Concat and what only moves values tie together, and at an Add.

    All tensors that a Concat, a max-pool, a split, a nearest resize, a reshape or a transpose joins form one group; integers
    pass through the group unchanged only where it has one scale.
    """
    yield from gathered("tensors of one shared-scale group have different scales", _at_concat(graph))
    yield from gathered("an Add reads different scales", _at_add(graph))
