"""Which layers must be float together, and between which of them tensors pass."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

from yoloqat.quant.graph import PlacementPlan, Traced
from yoloqat.quant.graph.cost import CONVOLUTIONS, LINEAR, TRANSPOSED
from yoloqat.quant.graph.trace import INPUT

_LAYERS = frozenset((*CONVOLUTIONS, *LINEAR, *TRANSPOSED))
_IMAGES = ""
"""Stands for the images among the writers of a tensor."""


@dataclass(frozen=True)
class Step:
    """A node of a graph, of a torch model or of a file.

    Attributes:
        reads: The tensors that it reads.
        writes: The tensors that it writes.
        elements: Numbers in what it writes of one image.
        layer: Name of the layer that it is, empty for the images; None where it is neither.
    """

    reads: tuple[Hashable, ...]
    writes: tuple[Hashable, ...]
    elements: int
    layer: str | None = None


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


def flows(steps: Iterable[Step], known: Collection[str]) -> list[Flow]:
    """Return which layer's output reaches which other layer with no layer between.

    Args:
        steps: The nodes of a graph at the shape of its images, in the order of execution.
        known: Names of the layers that can be quantized; of the others, which are float, only borders with them are told.
    """
    found: dict[tuple[str, str], int] = {}
    writers: dict[Hashable, dict[str, int]] = {}
    for step in steps:
        written: dict[str, int] = {}
        for read in step.reads:
            written |= writers.get(read, {})
        if step.layer is not None:
            for writer, elements in written.items():
                if writer in known or step.layer in known:
                    found[writer, step.layer] = elements
            written = {step.layer: step.elements}
        writers.update(dict.fromkeys(step.writes, written))
    return [Flow(writer, reader, elements) for (writer, reader), elements in found.items()]


def traced_steps(traced: Traced) -> Iterator[Step]:
    """Yield the nodes of a torch model's graph.

    Args:
        traced: The graph at the shape of its images.
    """
    for node in traced.nodes:
        elements = prod(node.shape[1:]) if node.shape else 0
        fed, is_layer = node.op == INPUT, node.op.rsplit(".", 1)[0] in _LAYERS
        reads = () if fed else tuple(node.reads())
        yield Step(reads, (node.index,), elements, _IMAGES if fed else node.module if is_layer else None)
