"""Which operators run as one layer: a convolution with what is fused into it, and adjacent pointwise operators."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from yoloqat.linting.fusion.flow import Flow
from yoloqat.linting.fusion.net import POINTWISE, Net, Op, Read
from yoloqat.onnx_graph.groups import Groups


@dataclass(frozen=True)
class Group:
    """Operators that run as one layer.

    Attributes:
        ops: In order; the first of a convolution's group is the convolution.
        skip: What an Add reads that is fused into a convolution.
    """

    ops: tuple[Op, ...]
    skip: Read | None = None


def _silu(net: Net, flow: Flow, tensor: str) -> list[Op]:
    """Return the Sigmoid and the Mul behind ``tensor``, where they are all that reads it."""
    readers = flow.readers.get(tensor, ())
    gates = [op for op in readers if op.type in ("Sigmoid", "HardSigmoid")]
    products = [op for op in readers if op.type == "Mul"]
    if len(readers) != 2 or len(gates) != 1 or len(products) != 1 or tensor in net.outputs:
        return []
    gate, product = gates[0], products[0]
    inside = {read.tensor for read in product.reads} == {tensor, gate.outputs[0]}
    alone = flow.readers.get(gate.outputs[0], ()) == (product,)
    return [gate, product] if inside and alone else []


def _fused(net: Net, flow: Flow, op: Op) -> Group:
    """Return a layer with its activation and its Add."""
    ops, skip, tensor = [op], None, op.outputs[0]
    while not op.depthwise and not flow.wanted[tensor].scales and tensor not in net.outputs:
        readers = flow.readers.get(tensor, ())
        silu = _silu(net, flow, tensor)
        if any(reader.tail for reader in readers):
            break
        if silu:
            ops += silu
        elif len(readers) == 1 and readers[0].type in POINTWISE and len(readers[0].reads) == 1:
            ops.append(readers[0])
        elif len(readers) == 1 and readers[0].type == "Add" and skip is None and len(readers[0].reads) == 2:
            others = [read for read in readers[0].reads if read.tensor != tensor]
            if not others or flow.order.get(others[0].tensor, -1) > flow.order[op.outputs[0]]:
                break
            skip = others[0]
            ops.append(readers[0])
        else:
            break
        tensor = ops[-1].outputs[0]
    return Group(tuple(ops), skip)


def _pointwise(net: Net, flow: Flow, taken: set[str]) -> Iterator[Group]:
    """Yield the groups of the pointwise operators that are fused into no layer.

    Two are joined where one reads the other and no way between them leads outside: their depths, counted in operators that are
    not pointwise, are equal.
    """
    depth: dict[str, int] = defaultdict(int)
    groups, free = Groups(), []
    for op in net.ops:
        pointwise = op.type in POINTWISE and op.name not in taken and not op.tail
        below = max((depth[read.tensor] for read in op.reads), default=0)
        for output in op.outputs:
            depth[output] = below if pointwise else below + 1
        if not pointwise:
            continue
        free.append(op)
        for read in op.reads:
            maker = flow.makers.get(read.tensor)
            if maker in free and read.scale is None and maker is not None and depth[read.tensor] == below:
                groups.join(maker.name, op.name)
    members: dict[str, list[Op]] = defaultdict(list)
    for op in free:
        members[groups.root(op.name)].append(op)
    for found in members.values():
        yield Group(tuple(found))


def groups_of(net: Net, flow: Flow) -> list[Group]:
    """Return the layers of a graph, without what only moves values, in order of their last operators."""
    found, taken = [], set()
    for op in net.ops:
        if op.layer and not op.tail:
            group = _fused(net, flow, op)
            found.append(group)
            taken |= {member.name for member in group.ops}
    found += _pointwise(net, flow, taken)
    taken |= {member.name for group in found for member in group.ops}
    found += [Group((op,)) for op in net.ops if op.name not in taken and not op.moves and not op.tail]
    return sorted(found, key=lambda group: flow.order[group.ops[-1].outputs[0]])
