"""Which layers must be float together, and between which of them tensors pass."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod

from yoloqat.quant.graph import PlacementPlan, Traced
from yoloqat.quant.graph.cost import CONVOLUTIONS, LINEAR, TRANSPOSED
from yoloqat.quant.graph.trace import INPUT

_LAYERS = frozenset((*CONVOLUTIONS, *LINEAR, *TRANSPOSED))
_IMAGES = ""
"""Stands for the images among the writers of a tensor."""


@dataclass(frozen=True)
class Flow:
    """A tensor on its way from the layer that writes it to one that reads it.

    Attributes:
        writer: Name of the layer; empty for the images.
        reader: Name of the layer.
        elements: Numbers in what the writer writes of one image.
    """

    writer: str
    reader: str
    elements: int


def tied_layers(placement: PlacementPlan, layers: Sequence[str]) -> list[tuple[str, ...]]:
    """Return quantized layers in groups whose inputs share a scale, in the order of ``layers``.

    A layer that alone left such a group would leave the others a scale that was found with it, and an engine a tensor in both
    precisions.

    Args:
        placement: Who shares a scale.
        layers: Names of all quantized layers.
    """
    group_of = {name: name for name in layers}
    for scale in placement.groups:
        holders = {location.rpartition(".")[0] for location in scale.locations} & group_of.keys()
        merged = {group_of[name] for name in holders}
        for name, group in group_of.items():
            if group in merged:
                group_of[name] = min(merged)
    groups: dict[str, list[str]] = {}
    for name in layers:
        groups.setdefault(group_of[name], []).append(name)
    return [tuple(group) for group in groups.values()]


def flows(traced: Traced, known: Collection[str]) -> list[Flow]:
    """Return which layer's output reaches which other layer with no layer between.

    Args:
        traced: The graph of a model at the shape of its images.
        known: Names of the layers that can be quantized; of the others, which are float, only borders with them are told.
    """
    found: dict[tuple[str, str], int] = {}
    writers: dict[int, dict[str, int]] = {}
    for node in traced.nodes:
        elements = prod(node.shape[1:]) if node.shape else 0
        if node.op == INPUT:
            writers[node.index] = {_IMAGES: elements}
            continue
        written: dict[str, int] = {}
        for read in node.reads():
            written |= writers.get(read, {})
        if node.op.rsplit(".", 1)[0] in _LAYERS:
            for writer, count in written.items():
                if writer in known or node.module in known:
                    found[writer, node.module] = count
            written = {node.module: elements}
        writers[node.index] = written
    return [Flow(writer, reader, elements) for (writer, reader), elements in found.items()]
