"""Exact replay: of one forward per batch everything upstream of a switched quantizer is used again.

A quantizer changes only what depends on it. Per batch the base model runs once and keeps the values that some item will need; for
each item the nodes downstream of its quantizers are run again, and nothing else. The operators, their inputs and their order are
those of the full forward, so the result is the same to the last bit. Several items run together where a batch is small; see
:mod:`yoloqat.sensitivity.together`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from yoloqat.quant.graph import Executor, Graphs, Traced
from yoloqat.quant.graph.cost import layer_costs
from yoloqat.quant.graph.trace import CONSTANT, GETITEM, INPUT, PARAMETER
from yoloqat.sensitivity.edges import Edge, Switch, placeholders
from yoloqat.sensitivity.together import Overrides, Together, run_node

Switches = Mapping[str, Switch]
"""The switch of each edge by its name; an edge that is not named stays as it is."""

WIDTH = 16
"""Images of one forward that items share.

With fewer, calls cost more, and one thread of a CPU takes a slower kernel for 1x1 convolutions; values of more leave its cache.
"""

CPU_PIXELS = WIDTH * 320 * 320
"""Pixels of such a forward on a CPU at most: at 640 pixels items together took a quarter longer than one by one."""


@dataclass(frozen=True, eq=False)
class _Steps:
    """The nodes that are run for one item.

    Attributes:
        nodes: Positions of the nodes to run, in order.
        needed: Positions of the values that they read and the base run must have kept.
    """

    nodes: tuple[int, ...]
    needed: frozenset[int]


class Replay:
    """A module at one shape of its input, run as it is and with some of its edges switched.

    Nothing of the module is changed, so that it can be used meanwhile and stays what it was.

    Args:
        module: The module that was traced.
        traced: Its graph.
        edges: Its edges.
        base: What is switched in the base model.
        items: What is switched under each item, whole: what the base switches and an item does not name is as in the module.
        rows: First and last plus one of the output's rows (its second axis) that are wanted of the items; in the others they may
            hold the base model's values, and what only these need is not run. None: all.
        width: Images of one forward that several items share.
        graphs: Graphs of the module that are traced already; None begins with none.

    Attributes:
        executor: Runs single nodes of the graph.
        together: Runs several items at once; knows which nodes gave other numbers then and run item by item.
    """

    def __init__(
        self,
        module: nn.Module,
        traced: Traced,
        edges: Sequence[Edge],
        *,
        base: Switches,
        items: Mapping[str, Switches],
        rows: tuple[int, int] | None = None,
        width: int = WIDTH,
        graphs: Graphs | None = None,
    ) -> None:
        self.executor = Executor(module, traced)
        self._traced = traced
        self._edges = {edge.name: edge for edge in edges}
        self._placeholders = placeholders(list(edges), traced, self.executor)
        self._base = dict(base)
        self._items = {name: dict(switches) for name, switches in items.items()}
        self._output = traced.outputs[0]
        self._reads = [node.reads() for node in traced.nodes]
        self._live = _ancestors(self._reads, self._output)
        self._wanted = self._live if rows is None else _wanted(traced, self._reads, self._output, rows)
        self._width = width
        self._again = False
        self.together = Together(graphs or Graphs(module), self.executor, self._reads)
        self._steps = {name: self._planned(switches) for name, switches in self._items.items()}

    def shares(self) -> dict[str, float]:
        """Return for each item which share of a forward's multiply-adds its replay costs."""
        by_node = {index: macs for index, macs in _multiply_adds(self._traced).items() if index in self._live}
        total = sum(by_node.values()) or 1
        return {
            name: sum(by_node.get(index, 0) for index in steps.nodes) / total for name, steps in self._steps.items()
        }

    def kept_bytes(self, names: Collection[str]) -> int:
        """Return how many bytes of values one base run keeps for all of these items."""
        return self._bytes(frozenset().union(*(self._steps[name].needed for name in names)))

    def run(self, images: Tensor, names: Collection[str], *, memory: int) -> Iterator[tuple[str | None, Tensor]]:
        """Yield the raw output of the base model under None, then that of each item under its name.

        From the second batch on several items run together.

        Args:
            images: Shape, memory format and device as they were traced.
            names: The items; they come in an order that lets values go early.
            memory: Bytes of values kept between items; where they do not suffice the base model is run again for a part of
                the items. One item's own values are kept in any case, and a forward of ``width`` images needs its working memory.
        """
        order = sorted(names, key=lambda name: self._steps[name].nodes[:1])
        size = self._group_size(images, len(order))
        self._again = True
        for number, part in enumerate(self._parts(order, memory) or [[]]):
            last = {index: position for position, name in enumerate(part) for index in self._steps[name].needed}
            with torch.inference_mode():
                values = self._base_values(images, frozenset(last))
            if number == 0:
                yield None, values[self._output]
            for start in range(0, len(part), size):
                for index in [index for index in values if last.get(index, -1) < start]:
                    del values[index]
                group = part[start : start + size]
                with torch.inference_mode():
                    outputs = self.together.run(
                        values,
                        [self._steps[name].nodes for name in group],
                        [self._overrides(self._items[name]) for name in group],
                        self._output,
                    )
                yield from zip(group, outputs, strict=True)

    def _group_size(self, images: Tensor, items: int) -> int:
        """Return how many items run together: none in the first batch, as a shape that does not come again repays no trace."""
        if images.device.type == "cpu" and self._width * images[0, 0].numel() > CPU_PIXELS:
            return 1
        size = max(1, min(self._width // max(len(images), 1), items))
        return size if size > 1 and self._again and self.together.possible(images) else 1

    def _bytes(self, indices: frozenset[int]) -> int:
        owners = {owner for index in indices for owner in _owners(self._traced, index)}
        nodes = [self._traced.nodes[owner] for owner in owners]
        return sum(prod(node.shape) * node.dtype.itemsize for node in nodes if node.shape is not None and node.dtype)

    def _parts(self, order: Sequence[str], memory: int) -> list[list[str]]:
        parts: list[list[str]] = []
        kept: frozenset[int] = frozenset()
        for name in order:
            both = kept | self._steps[name].needed
            if parts and self._bytes(both) <= memory:
                parts[-1].append(name)
                kept = both
            else:
                parts.append([name])
                kept = self._steps[name].needed
        return parts

    def _planned(self, switches: Switches) -> _Steps:
        """Return what runs again: all that lies downstream of a marker that differs from the base, up to the output."""
        names = {name for name in {*switches, *self._base} if switches.get(name) != self._base.get(name)}
        inside = self._traced.downstream({index for name in names for index in self._placeholders[name]})
        nodes = sorted(inside & self._wanted)
        needed = frozenset(read for index in nodes for read in self._reads[index]).difference(nodes)
        return _Steps(tuple(nodes), needed if nodes else frozenset({self._output}))

    def _base_values(self, images: Tensor, needed: frozenset[int]) -> dict[int, Any]:
        live = sorted(self._live)
        last = {read: index for index in live for read in self._reads[index]}
        kept = needed | {self._output}
        overrides = self._overrides(self._base)
        values: dict[int, Any] = {}
        for index in live:
            node = self._traced.nodes[index]
            if node.op == INPUT:
                values[index] = self.executor.run_node(node, values, images)
            else:
                values[index] = run_node(self.executor, node, values, overrides)
            for read in self._reads[index]:
                if last[read] == index and read not in kept:
                    del values[read]
        return values

    def _overrides(self, switches: Switches) -> Overrides:
        return {
            index: (self._edges[name], switch)
            for name, switch in switches.items()
            for index in self._placeholders[name]
        }


_VIEWS = {"chunk", "split", "split_with_sizes", "unbind", "view", "slice", "select", "transpose", "permute", "expand"}
_VIEWS |= {"unsqueeze", "squeeze", "alias", "detach", "t", "narrow"}
_SOMETIMES_VIEWS = ("reshape", "contiguous", "flatten")


def _owners(traced: Traced, index: int) -> set[int]:
    """Return the nodes whose memory the value of a node keeps alive; none where it is the module's own."""
    node = traced.nodes[index]
    if node.op in (PARAMETER, CONSTANT):
        return set()
    base = node.op.removeprefix("aten.").rpartition(".")[0]
    if node.op == GETITEM or base in _VIEWS:
        return _owners(traced, node.reads()[0])
    return {index} | (_owners(traced, node.reads()[0]) if base in _SOMETIMES_VIEWS else set())


def _multiply_adds(traced: Traced) -> dict[int, int]:
    """Return the multiply-adds of the nodes that have any."""
    costs = deque(layer_costs(traced))
    found: dict[int, int] = {}
    for node in traced.nodes:
        if costs and (node.module, node.shape) == (costs[0].name, costs[0].output) and costs[0].kind in node.op:
            found[node.index] = costs.popleft().macs
    return found


def _ancestors(reads: Sequence[Sequence[int]], output: int) -> frozenset[int]:
    """Return the positions of ``output`` and of all nodes that it depends on."""
    found, waiting = {output}, [output]
    while waiting:
        for read in reads[waiting.pop()]:
            if read not in found:
                found.add(read)
                waiting.append(read)
    return frozenset(found)


def _wanted(traced: Traced, reads: Sequence[Sequence[int]], output: int, rows: tuple[int, int]) -> frozenset[int]:
    """Return the positions of the output and of all nodes that rows of it depend on, first to last plus one."""
    node = traced.nodes[output]
    if node.op != "aten.cat.default" or len(node.args) != len(("tensors", "axis")) or node.args[1] != 1:
        return _ancestors(reads, output)
    found, begin = {output}, 0
    for part in node.args[0]:
        end = begin + (traced.nodes[part.index].shape or (0, 0))[1]
        if begin < rows[1] and rows[0] < end:
            found |= _ancestors(reads, part.index)
        begin = end
    return frozenset(found)
