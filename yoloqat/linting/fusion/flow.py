"""Q/DQ propagation: in which form each tensor is wanted, once every Q has moved back and every DQ forward as far as it goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from yoloqat.linting.fusion.net import POINTWISE, Net, Op, Read
from yoloqat.onnx_graph.operators import QUANTIZE


@dataclass
class Wanted:
    """In which forms the readers of a tensor want it; each with the names of those readers.

    Attributes:
        integers: By scale.
        floats: In float.
        dequantized: In float, but with the values that a scale leaves of it: a DQ of its own.
    """

    integers: dict[bytes, list[str]] = field(default_factory=dict)
    floats: list[str] = field(default_factory=list)
    dequantized: dict[bytes, list[str]] = field(default_factory=dict)

    @property
    def scales(self) -> list[bytes]:
        """The scales with which it must be stored in integers."""
        return list(dict.fromkeys((*self.integers, *self.dequantized)))

    @property
    def one_scale(self) -> bytes | None:
        """The scale, where every reader wants integers of one scale and nothing else."""
        alone = not self.floats and not self.dequantized and len(self.integers) == 1
        return next(iter(self.integers)) if alone else None

    @property
    def mixed(self) -> bool:
        """Whether whoever makes it has to write float and a Q must follow."""
        return bool(self.scales) and (bool(self.floats) or len(self.scales) > 1)


@dataclass(frozen=True)
class Flow:
    """The result of propagation.

    Attributes:
        wanted: How each tensor is wanted.
        stored: The scale of each tensor that an operator gives that only moves integers; such a tensor is stored in no float.
        readers: The operators that read a tensor.
        makers: The operator that makes a tensor.
        order: Position of each operator, by its first output.
    """

    wanted: Mapping[str, Wanted]
    stored: Mapping[str, bytes]
    readers: Mapping[str, tuple[Op, ...]]
    makers: Mapping[str, Op]
    order: Mapping[str, int]


def _absorbs(op: Op) -> bool:
    """Return whether an operator takes the DQs of its inputs in."""
    if op.layer:
        return op.quantized and all(read.scale is not None for read in op.reads)
    return op.type in POINTWISE or op.type in (QUANTIZE, "AveragePool", "GlobalAveragePool")


class _Propagation:
    """Goes through the operators from the last to the first."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.wanted: dict[str, Wanted] = defaultdict(Wanted)
        self.stored: dict[str, bytes] = {}

    def want(self, read: Read, scale: bytes | None, names: list[str], *, integers: bool) -> None:
        wanted = self.wanted[read.tensor]
        if scale is None:
            wanted.floats += names
        else:
            (wanted.integers if integers else wanted.dequantized).setdefault(scale, []).extend(names)

    def move(self, op: Op) -> None:
        explicit = {read.scale for read in op.reads}
        for output in op.outputs:
            wanted = self.wanted[output]
            scale = wanted.one_scale
            if scale is not None and explicit <= {None, scale}:
                names = wanted.integers[scale]
            elif len(explicit) == 1 and None not in explicit:
                (scale,) = explicit
                names = [op.name]
            else:
                if wanted.floats or wanted.scales:
                    for read in op.reads:
                        self.want(read, read.scale, [op.name], integers=False)
                continue
            self.stored[output] = scale or b""
            for read in op.reads:
                self.want(read, scale, names, integers=True)

    def run(self) -> None:
        for name in self.net.outputs:
            self.wanted[name].floats.append("the graph's output")
        for op in reversed(self.net.ops):
            if op.moves and not op.tail:
                self.move(op)
            else:
                for read in op.reads:
                    self.want(read, read.scale, [op.name], integers=_absorbs(op) and not op.tail)


def flow_of(net: Net) -> Flow:
    """Propagate Qs backward and DQs forward."""
    propagation = _Propagation(net)
    propagation.run()
    readers: dict[str, list[Op]] = defaultdict(list)
    makers, order = {}, {}
    for position, op in enumerate(net.ops):
        for tensor in dict.fromkeys(read.tensor for read in op.reads):
            readers[tensor].append(op)
        for output in op.outputs:
            makers[output], order[output] = op, position
    return Flow(
        dict(propagation.wanted),
        propagation.stored,
        {name: tuple(found) for name, found in readers.items()},
        makers,
        order,
    )
