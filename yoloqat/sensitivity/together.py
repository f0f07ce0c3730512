"""Items that run together: what several of them run again goes through one forward, their images side by side in its batch.

Each item joins where its own nodes begin: there its values are laid beside those of the items before it. An operator whose
numbers depend on the batch, as a convolution's may when another kernel is chosen for more images, is found out and runs item by
item, so that the outputs are those of the items alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from yoloqat.errors import ModelError
from yoloqat.quant.graph import Executor, Graphs
from yoloqat.quant.graph.trace import Node, Ref
from yoloqat.sensitivity.edges import Edge, Switch, switched_quantizer

Overrides = Mapping[int, tuple[Edge, Switch]]
"""The edge and its switch by the position of the placeholder that stands for it."""

CONVOLUTION, SILU = "aten.conv2d.default", "aten.silu.default"


def run_node(executor: Executor, node: Node, values: dict[int, Any], overrides: Overrides) -> Any:
    """Return the value of a node with what is switched there; the module and ``values`` stay unchanged.

    Args:
        executor: Runs single nodes.
        node: Any but the input.
        values: Values of the nodes it reads, by position.
        overrides: What is switched.
    """
    if node.index not in overrides:
        return executor.run_node(node, values)
    edge, switch = overrides[node.index]
    value = values[node.reads()[0]]
    return value if switch.bits is None else switched_quantizer(edge.quantizer, switch)(value)


@dataclass(frozen=True, eq=False)
class _Value:
    """A value that is not the base model's.

    Attributes:
        items: Numbers of the items that it belongs to.
        data: Their values in their order, or side by side on the first axis: a tensor, or a tuple of them.
        joined: Whether they are side by side.
    """

    items: tuple[int, ...]
    data: Any
    joined: bool = True

    def of(self, item: int) -> Any:
        """Return the value of one item."""
        position = self.items.index(item)
        return _part(self.data, position, len(self.items)) if self.joined else self.data[position]


@dataclass(frozen=True, eq=False)
class _Run:
    """What a run of several items knows.

    Attributes:
        base: Values of the base model.
        values: Those of the items, as far as they are still needed.
        overrides: What each item switches.
        last: The node that reads a value last.
    """

    base: Mapping[int, Any]
    values: dict[int, _Value]
    overrides: Sequence[Overrides]
    last: Mapping[int, int]

    def has(self, index: int, item: int) -> bool:
        """Return whether an item has a value of its own."""
        return index in self.values and item in self.values[index].items

    def value(self, index: int, item: int) -> Any:
        """Return an item's value, which may be the base model's."""
        return self.values[index].of(item) if self.has(index, item) else self.base[index]


class Together:
    """Runs the nodes of several items at once, each node for all items that need it.

    Args:
        graphs: Of the module, which is traced a second time at twice the batch: what doubles there holds the batch.
        executor: Runs single nodes of its graph.
        reads: The positions of the values that each node reads.

    Attributes:
        checked: The nodes that have run for several items at once, with the number of items. The first time each item's value
            is also computed alone.
        parted: Those of them whose numbers then differed; they run item by item.
    """

    def __init__(self, graphs: Graphs, executor: Executor, reads: Sequence[Sequence[int]]) -> None:
        self.checked: set[tuple[int, int]] = set()
        self.parted: set[tuple[int, int]] = set()
        self._graphs, self._executor, self._reads = graphs, executor, reads
        self._wide: tuple[Node, ...] = ()
        self._batched: frozenset[int] | None = None
        self._nodes: dict[tuple[int, int], Node] = {}

    def possible(self, images: Tensor) -> bool:
        """Return whether all values of the graph have the batch outermost or not at all; traces when first asked.

        Args:
            images: As they were traced.
        """
        if self._batched is None:
            try:
                self._wide = self._graphs.at(torch.cat([images, images])).nodes
                self._batched = _batched(self._executor.traced.nodes, self._wide)
            except ModelError:
                self._batched = frozenset()
        return bool(self._batched)

    def run(
        self, base: Mapping[int, Any], nodes: Sequence[Sequence[int]], overrides: Sequence[Overrides], output: int
    ) -> list[Tensor]:
        """Return the output of each item.

        Args:
            base: Values of the base model that the items read.
            nodes: Positions of the nodes to run for each item; of several items only where :meth:`possible`.
            overrides: What each item switches.
            output: Position of the output.
        """
        users: dict[int, list[int]] = {}
        for item, own in enumerate(nodes):
            for index in own:
                users.setdefault(index, []).append(item)
        order = sorted(users)
        last = {read: index for index in order for read in self._reads[index]}
        run = _Run(base, {}, overrides, last)
        for index in order:
            run.values[index] = self._run(index, tuple(users[index]), run)
            for read in self._reads[index]:
                if last[read] == index:
                    run.values.pop(read, None)
        found = run.values.get(output)
        return [
            found.of(item) if found is not None and item in found.items else base[output] for item in range(len(nodes))
        ]

    def _run(self, index: int, items: tuple[int, ...], run: _Run) -> _Value:
        """Return a node's value for these items: at once for those that switch it alike and have no weight of their own there."""
        batched = self._batched or frozenset()
        alike: dict[Any, list[int]] = {}
        for item in items:
            lone = index not in batched or any(
                run.has(read, item) for read in self._reads[index] if read not in batched
            )
            alike.setdefault(item if lone else _switch(run.overrides[item], index), []).append(item)
        values = [self._together(index, tuple(part), run) for part in alike.values()]
        if len(values) == 1:
            return values[0]
        by_item = {item: value.of(item) for value in values for item in value.items}
        return _Value(items, [by_item[item] for item in items], joined=False)

    def _together(self, index: int, items: tuple[int, ...], run: _Run) -> _Value:
        node, key = self._executor.traced.nodes[index], (index, len(items))
        overwrites = self._overwrites(index, run)
        if len(items) == 1 or key in self.parted:
            return _Value(items, [self._alone(node, item, run, overwrites) for item in items], joined=False)
        single = [] if key in self.checked else [self._alone(node, item, run, False) for item in items]
        inputs = {read: self._joined(read, items, run) for read in self._reads[index]}
        if overwrites and not single:
            return _Value(items, torch.ops.aten.silu_(inputs[self._reads[index][0]]))
        data = run_node(self._executor, self._widened(node, len(items)), inputs, run.overrides[items[0]])
        if single:
            self.checked.add(key)
            if not all(_equal(_part(data, place, len(items)), value) for place, value in enumerate(single)):
                self.parted.add(key)
                return _Value(items, single, joined=False)
        return _Value(items, data)

    def _alone(self, node: Node, item: int, run: _Run, overwrites: bool) -> Any:
        inputs = {read: run.value(read, item) for read in self._reads[node.index]}
        if overwrites:
            return torch.ops.aten.silu_(inputs[self._reads[node.index][0]])
        return run_node(self._executor, node, inputs, run.overrides[item])

    def _overwrites(self, index: int, run: _Run) -> bool:
        """Return whether a node is a SiLU that may take its input's memory: a convolution's own, which nothing else reads."""
        nodes, reads = self._executor.traced.nodes, self._reads[index]
        return (
            nodes[index].op == SILU
            and nodes[reads[0]].op == CONVOLUTION
            and reads[0] in run.values
            and run.last[reads[0]] == index
        )

    def _joined(self, read: int, items: tuple[int, ...], run: _Run) -> Any:
        """Return a value with these items side by side, the base model's for those that do not change it."""
        value = run.values.get(read)
        if value is not None and value.items == items and value.joined:
            return value.data
        if read not in (self._batched or frozenset()):
            return run.base[read]
        return torch.cat([run.value(read, item) for item in items])

    def _widened(self, node: Node, items: int) -> Node:
        key = (node.index, items)
        if key not in self._nodes:
            wide = self._wide[node.index]
            args, kwargs = _scaled(node.args, wide.args, items), _scaled(node.kwargs, wide.kwargs, items)
            self._nodes[key] = replace(node, args=args, kwargs=kwargs)
        return self._nodes[key]


def _switch(overrides: Overrides, index: int) -> Switch | None:
    return overrides[index][1] if index in overrides else None


def _part(data: Any, position: int, items: int) -> Any:
    if isinstance(data, Tensor):
        size = data.shape[0] // items
        return data.narrow(0, position * size, size)
    return tuple(_part(one, position, items) for one in data)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    return all(_equal(*pair) for pair in zip(one, other, strict=True))


def _batched(nodes: Sequence[Node], doubled: Sequence[Node]) -> frozenset[int]:
    """Return the positions of the values that hold the batch, outermost; none where the graphs do not allow several items."""
    if [node.op for node in nodes] != [node.op for node in doubled]:
        return frozenset()
    found: set[int] = set()
    for node, wide in zip(nodes, doubled, strict=True):
        if node.shape is None or wide.shape is None:
            holds = node.reads()[0] in found
        elif node.shape == wide.shape:
            holds = False
        elif node.shape and wide.shape == (2 * node.shape[0], *node.shape[1:]):
            holds = True
        else:
            return frozenset()
        found |= {node.index} if holds else set()
        try:
            _scaled((node.args, node.kwargs), (wide.args, wide.kwargs), 2)
        except ValueError:
            return frozenset()
    return frozenset(found)


def _scaled(argument: Any, doubled: Any, items: int) -> Any:
    """Return an argument with the numbers that double with the batch multiplied by ``items``.

    Raises:
        ValueError: Something differs otherwise.
    """
    if isinstance(argument, list | tuple):
        return type(argument)(_scaled(*pair, items) for pair in zip(argument, doubled, strict=True))
    if isinstance(argument, dict):
        return {name: _scaled(part, doubled[name], items) for name, part in argument.items()}
    if isinstance(argument, Ref) or argument == doubled:
        return argument
    if isinstance(argument, int) and doubled == 2 * argument:
        return argument * items
    raise ValueError(f"{argument!r} becomes {doubled!r} at twice the batch")
