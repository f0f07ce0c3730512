"""The prediction: a file in, the layers of TensorRT's engine out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from yoloqat.linting.fusion.copies import Copy, concat_copies, slice_copies
from yoloqat.linting.fusion.flow import Flow, Wanted, flow_of
from yoloqat.linting.fusion.groups import Group, groups_of
from yoloqat.linting.fusion.model import FLOAT, HALF, INT8, Kind, PredictedLayer
from yoloqat.linting.fusion.net import FREE, POINTWISE, POOLS, SLICES, Net, Op, Read, net_of
from yoloqat.linting.fusion.roofline import times_ms
from yoloqat.linting.graph import prepare
from yoloqat.linting.trt_version import TENSORRT_10
from yoloqat.onnx_graph.macs import multiply_adds
from yoloqat.onnx_graph.operators import QUANTIZE

_WIDTH = {FLOAT: 4, HALF: 2, INT8: 1}
_SHOWN = 2


def _names(names: Iterable[str]) -> str:
    listed = list(dict.fromkeys(names))
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(f"'{name}'" for name in listed[:_SHOWN]) + more


class _Engine:
    """Writes the layers of one graph down."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.flow: Flow = flow_of(net)
        self.half = any(net.kinds.get(op.outputs[0]) == HALF for op in net.ops if op.layer and op.outputs)
        self.layers: list[PredictedLayer] = []

    def wanted(self, tensor: str) -> Wanted:
        return self.flow.wanted.get(tensor, Wanted())

    def floating(self, tensor: str) -> str:
        """Return the type of a tensor's float form; images are converted where the layers run in FP16."""
        kind = self.net.kinds.get(tensor, FLOAT)
        if kind == INT8 or (tensor in self.net.inputs and self.half):
            return HALF if self.half else FLOAT
        return kind

    def precision(self, op: Op, read: Read) -> str:
        """Return the type in which an operator reads a tensor."""
        integers = any(op.name in names for names in self.wanted(read.tensor).integers.values())
        return INT8 if integers or read.tensor in self.moved(op) else self.floating(read.tensor)

    def moved(self, op: Op) -> set[str]:
        """Return what ``op`` reads, where it moves integers."""
        stored = any(output in self.flow.stored for output in op.outputs)
        return {read.tensor for read in op.reads} if op.moves and stored else set()

    def emit(
        self,
        name: str,
        kind: Kind,
        nodes: Iterable[str],
        types: tuple[str, str],
        moved: int,
        *,
        macs: int = 0,
        rules: tuple[str, ...] = (),
        cause: str = "",
    ) -> None:
        precision = types[0] if types[0] in _WIDTH else FLOAT
        times = times_ms(kind=kind, precision=precision, moved=moved, macs=macs)
        nodes = tuple(dict.fromkeys(nodes))
        self.layers.append(PredictedLayer(name, kind, nodes, *types, moved, macs, rules, cause, times))

    def conversions(self, tensor: str, *, fused: bool, maker: str, why: str = "", rule: str = "float-input") -> None:
        """Write the Qs and DQs of a tensor down that run alone.

        Args:
            tensor: The tensor.
            fused: Whether what makes it writes the integers already.
            maker: Who makes it.
            why: Why a single Q is not fused.
            rule: By which rule.
        """
        wanted, floating = self.wanted(tensor), self.floating(tensor)
        size, small = self.net.size(tensor, floating), self.net.size(tensor, INT8)
        for scale in wanted.scales:
            readers = [*wanted.integers.get(scale, ()), *wanted.dequantized.get(scale, ())]
            if not fused:
                cause = why
                if wanted.mixed:
                    others = [n for s in wanted.scales if s != scale for n in wanted.integers.get(s, ())]
                    apart = (
                        _names(wanted.floats) + " in float" if wanted.floats else _names(others) + " by another scale"
                    )
                    cause, rule = f"'{maker}' is read by {_names(readers)} in INT8 and by {apart}", "mixed-reader"
                image = tensor in self.net.inputs
                types = (FLOAT if image else floating, INT8)
                moved = small + (self.net.size(tensor, FLOAT) if image else size)
                self.emit(
                    f"QuantizeLinear of {tensor}",
                    Kind.QUANTIZE,
                    [maker, *readers] if maker else readers,
                    types,
                    moved,
                    rules=("input-quantize" if image else rule,),
                    cause="" if image else cause,
                )
            if scale in wanted.dequantized:
                names = wanted.dequantized[scale]
                cause = f"{_names(names)} reads the dequantized values in float"
                self.emit(
                    f"DequantizeLinear of {tensor}",
                    Kind.DEQUANTIZE,
                    [maker, *names] if maker else names,
                    (INT8, floating),
                    size + small,
                    rules=("float-input",),
                    cause=cause,
                )

    def written(self, tensor: str, *, fuses: bool) -> tuple[str, bool]:
        """Return the type in which a tensor is written, and whether its Q is fused."""
        wanted = self.wanted(tensor)
        fused = fuses and len(wanted.scales) == 1 and not wanted.floats
        return (INT8 if fused else self.floating(tensor)), fused

    def layer(self, group: Group) -> None:
        """Write a convolution, or another product, with what is fused into it down."""
        op, tensor = group.ops[0], group.ops[-1].outputs[0]
        before = [self.precision(op, read) for read in op.reads]
        integer = op.quantized and all(found == INT8 for found in before)
        kind = Kind.PRODUCT if op.product else Kind.DEPTHWISE if op.depthwise else Kind.CONVOLUTION
        skip, skipped, rules = group.skip, FLOAT, ["conv-fusion"]
        if skip is not None:
            skipped = self.precision(group.ops[-1], skip)
            skipped = next((self.precision(o, skip) for o in group.ops if skip in o.reads), skipped)
            rules.append("add-fusion")
        floating_skip = skip is not None and skipped != INT8
        transposed = op.type == "ConvTranspose"
        after, fused = self.written(tensor, fuses=integer and not floating_skip and not transposed)
        why, rule = "", "float-input"
        if not integer:
            why = f"'{op.name}' runs in float"
        elif floating_skip and skip is not None:
            why, rule = f"'{group.ops[-1].name}' reads '{skip.tensor}' in float", "add-fusion"
        elif transposed:
            why, rule = f"'{op.name}' is transposed", "transposed-quantize"
        if fused:
            rules.append("conv-quantize")
        if op.depthwise:
            rules.append("depthwise-alone")
        moved = sum(self.net.size(read.tensor, found) for read, found in zip(op.reads, before, strict=True))
        moved += self.net.size(tensor, after) + op.weights * _WIDTH.get(before[0] if before else FLOAT, 4)
        moved += 0 if skip is None else self.net.size(skip.tensor, skipped)
        first = before[0] if before else FLOAT
        self.emit(
            " + ".join(member.name for member in group.ops),
            kind,
            [member.name for member in group.ops],
            (first, after),
            moved,
            macs=self.macs(op),
            rules=tuple(rules),
        )
        self.conversions(tensor, fused=fused, maker=op.name, why=why, rule=rule)

    def macs(self, op: Op) -> int:
        """Return the multiply-adds of a layer."""
        shapes = self.net.shapes
        if op.product:
            first = shapes.get(op.reads[0].tensor, ())
            return self.net.elements(op.outputs[0]) * (first[-1] if first else 0)
        if op.type in ("Conv", "ConvTranspose"):
            centre = shapes.get(op.outputs[0] if op.type == "Conv" else op.reads[0].tensor, ())
            channels = centre[1] if len(centre) > 1 else 0
            return multiply_adds(centre, (channels, op.weights // channels)) if channels else 0
        last = shapes.get(op.outputs[0], ())
        return self.net.elements(op.outputs[0]) * op.weights // last[-1] if last and last[-1] else 0

    def pointwise(self, group: Group) -> None:
        """Write pointwise operators, or one other operator, down."""
        inside = {output for op in group.ops for output in op.outputs}
        reads = {
            read.tensor: self.precision(op, read) for op in group.ops for read in op.reads if read.tensor not in inside
        }
        names = {op.name for op in group.ops}
        leaving = [
            output
            for op in group.ops
            for output in op.outputs
            if output in self.net.outputs or any(r.name not in names for r in self.flow.readers.get(output, ()))
        ]
        kind, rule = Kind.POINTWISE, "pointwise"
        fuses, first = True, group.ops[0].type
        if first in POOLS:
            kind, rule, fuses = Kind.POOL, "alone", set(reads.values()) == {INT8}
        elif first == QUANTIZE:
            kind, rule = Kind.QUANTIZE, "requantize"
        elif first not in POINTWISE:
            kind, rule, fuses = Kind.OTHER, "alone", False
        moved, after, left = sum(self.net.size(name, found) for name, found in reads.items()), FLOAT, []
        for tensor in leaving:
            after, fused = self.written(tensor, fuses=fuses)
            moved += self.net.size(tensor, after)
            left.append((tensor, fused))
        rules = (rule, *(("pointwise-quantize",) if any(fused for _, fused in left) else ()))
        cause = f"'{group.ops[0].reads[0].tensor}' is quantized with another scale" if first == QUANTIZE else ""
        before = max(reads.values(), key=lambda found: _WIDTH.get(found, 0), default=FLOAT)
        self.emit(
            " + ".join(op.name for op in group.ops),
            kind,
            [op.name for op in group.ops],
            (before, after),
            moved,
            rules=rules,
            cause=cause,
        )
        for tensor, fused in left:
            self.conversions(tensor, fused=fused, maker=group.ops[-1].name, why=f"'{group.ops[-1].name}' runs in float")

    def move(self, op: Op) -> None:
        """Write what only moves values down, where that takes a copy."""
        output = op.outputs[0]
        wanted = [name for name in op.outputs if self.flow.readers.get(name) or name in self.net.outputs]
        if not wanted:
            return
        precision = INT8 if any(name in self.flow.stored for name in op.outputs) else self.floating(output)
        if op.type == "Concat":
            self.copies(op, concat_copies(self.net, self.flow, op, precision), precision)
        elif op.type in SLICES:
            self.copies(op, slice_copies(self.net, self.flow, op, precision), precision)
        elif op.type not in FREE:
            kind = Kind.POOL if op.type in POOLS else Kind.OTHER
            moved = self.net.size(op.reads[0].tensor, precision) + self.net.size(output, precision)
            self.emit(
                op.name,
                kind,
                [op.name],
                (precision, precision),
                moved,
                rules=("propagate-quantize",) if precision == INT8 else ("alone",),
            )
        for name in wanted:
            if name in self.flow.stored:
                self.restored(name, op)
            else:
                self.conversions(name, fused=False, maker=op.name, why=f"'{op.name}' moves float")

    def restored(self, tensor: str, op: Op) -> None:
        """Write what turns moved integers into another form down."""
        wanted, scale = self.wanted(tensor), self.flow.stored[tensor]
        size, small = self.net.size(tensor, self.floating(tensor)), self.net.size(tensor, INT8)
        floats = [*wanted.floats, *(name for names in wanted.dequantized.values() for name in names)]
        if floats:
            cause = f"{_names(floats)} reads the dequantized values in float"
            types, nodes = (INT8, self.floating(tensor)), [op.name, *floats]
            self.emit(
                f"DequantizeLinear of {tensor}",
                Kind.DEQUANTIZE,
                nodes,
                types,
                size + small,
                rules=("float-input",),
                cause=cause,
            )
        for other in wanted.scales:
            if other != scale:
                nodes, cause = [op.name, *wanted.integers.get(other, ())], f"'{op.name}' gives another scale"
                self.emit(
                    f"QuantizeLinear of {tensor}",
                    Kind.QUANTIZE,
                    nodes,
                    (INT8, INT8),
                    2 * small,
                    rules=("requantize",),
                    cause=cause,
                )

    def copies(self, op: Op, found: Iterator[Copy], precision: str) -> None:
        for copy in found:
            moved = 2 * self.net.size(copy.tensor, precision)
            self.emit(
                f"{copy.tensor} copy",
                Kind.REFORMAT,
                [op.name],
                (precision, precision),
                moved,
                rules=(copy.rule,),
                cause=copy.cause,
            )

    def images(self) -> None:
        """Write what turns the images into what the first layers read down."""
        for name in sorted(self.net.inputs):
            if self.wanted(name).floats and self.half and self.net.kinds.get(name) == FLOAT:
                moved = self.net.size(name, FLOAT) + self.net.size(name, HALF)
                readers = self.wanted(name).floats
                self.emit(f"{name} copy", Kind.REFORMAT, readers, (FLOAT, HALF), moved, rules=("input-reformat",))
            self.conversions(name, fused=False, maker="")

    def tail(self) -> None:
        """Write the decoding down."""
        ops = [op for op in self.net.ops if op.tail]
        inside = {output for op in ops for output in op.outputs}
        reads = dict.fromkeys(read.tensor for op in ops for read in op.reads if read.tensor not in inside)
        moved = sum(self.net.size(name, self.floating(name)) for name in reads)
        moved += sum(
            self.net.size(name, self.net.kinds.get(name, FLOAT)) for name in self.net.outputs if name in inside
        )
        if ops:
            types = (max((self.floating(name) for name in reads), default=FLOAT), FLOAT)
            self.emit(
                f"{ops[0].name}...{ops[-1].name}", Kind.OTHER, [op.name for op in ops], types, moved, rules=("tail",)
            )

    def run(self) -> tuple[PredictedLayer, ...]:
        groups = {id(group.ops[-1]): group for group in groups_of(self.net, self.flow)}
        self.images()
        for op in self.net.ops:
            group = groups.get(id(op))
            if group is not None:
                (self.layer if group.ops[0].layer else self.pointwise)(group)
            elif op.moves and not op.tail:
                self.move(op)
        self.tail()
        return tuple(self.layers)


def predict_net(net: Net) -> tuple[PredictedLayer, ...]:
    """Return the layers of an engine for a graph whose Q, DQ and casts are read into it."""
    return _Engine(net).run()


def predict_layers(model: onnx.ModelProto) -> tuple[PredictedLayer, ...]:
    """Predict the layers of TensorRT's engine for a file; nothing is run.

    Args:
        model: Anybody's QDQ file, or a float one; open sizes count as one.

    Returns:
        The layers in order of execution. They are predictions by :data:`~yoloqat.linting.fusion.FUSION_RULES`.

    Raises:
        ModelError: The shapes of its tensors cannot be inferred.
    """
    return predict_net(net_of(model, prepare(model, TENSORRT_10)))
