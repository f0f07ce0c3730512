"""Which copies, quantizers and float layers cost an INT8 engine time, and what in the ONNX file causes each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from yoloqat.engines.reading.layer import FLOATS, INT8, UNKNOWN, Layer
from yoloqat.results import counted

_SHOWN = 3


@dataclass(frozen=True)
class Loss:
    """Something that costs time and that the file can avoid.

    Attributes:
        rule: Its kind, e.g. ``"standalone-quantize"``.
        nodes: ONNX nodes, or where none are told layers, that cause it.
        message: What happens, and why.
        hint: What to do.
        ms: What it costs in milliseconds, None where no time is told.
        avoidable: Whether another file would avoid it.
    """

    rule: str
    nodes: tuple[str, ...]
    message: str
    hint: str
    ms: float | None = None
    avoidable: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the loss as a finding, JSON-able."""
        severity = "warning" if self.avoidable else "note"
        return {
            "rule": self.rule,
            "severity": severity,
            "nodes": list(self.nodes),
            "message": self.message,
            "hint": self.hint,
            "ms": self.ms,
        }


class _Flow:
    """Who writes and who reads each tensor."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.writers: dict[str, list[Layer]] = {}
        self.readers: dict[str, list[Layer]] = {}
        for layer in layers:
            for tensor in layer.outputs:
                self.writers.setdefault(tensor.name, []).append(layer)
            for tensor in layer.inputs:
                self.readers.setdefault(tensor.name, []).append(layer)

    def before(self, layer: Layer) -> list[Layer]:
        return [found for tensor in layer.inputs for found in self.writers.get(tensor.name, ())]

    def after(self, layer: Layer) -> list[Layer]:
        return [found for tensor in layer.outputs for found in self.readers.get(tensor.name, ())]

    def computing(self, layer: Layer, *, forward: bool) -> list[Layer]:
        """Return the computing layers next to a layer, beyond copies and quantizers."""
        found, queue, seen = [], [layer], {id(layer)}
        while queue:
            last = queue.pop()
            for other in self.after(last) if forward else self.before(last):
                if id(other) in seen:
                    continue
                seen.add(id(other))
                if other.kind == "compute":
                    found.append(other)
                else:
                    queue.append(other)
        return found


def losses(layers: Sequence[Layer], runtime: str) -> list[Loss]:
    """Return what costs an engine time, the dearest first.

    Args:
        layers: In order of execution; where no types are told, only copies, quantizers and dequantizers are found.
        runtime: ``"tensorrt"`` or ``"openvino"``, whose CPU has no FP16 to prefer to FP32.
    """
    flow = _Flow(layers)
    found: list[Loss] = []
    taken: set[int] = set()
    if any(_int8(layer) for layer in layers):
        for island in _islands(layers, flow):
            loss, edges = _island_loss(island, flow)
            found.append(loss)
            taken |= edges
    conversions = [layer for layer in layers if layer.kind != "compute" and id(layer) not in taken]
    told = [layer for layer in conversions if layer.inputs or layer.outputs]
    found += [_conversion_loss(layer, flow) for layer in told]
    found += _named_only([layer for layer in conversions if layer not in told], runtime)
    if runtime == "tensorrt":
        found += _single_precision(layers)
    found = [loss for loss in found if loss.avoidable] + _ends([loss for loss in found if not loss.avoidable])
    return sorted(found, key=lambda loss: (not loss.avoidable, -(loss.ms or 0.0)))


def _ends(found: Sequence[Loss]) -> list[Loss]:
    """Join what input and output take, which no other file avoids."""
    if not found:
        return []
    names = tuple(dict.fromkeys(name for loss in found for name in loss.nodes))
    times = [loss.ms for loss in found if loss.ms is not None]
    message = f"{counted(len(found), 'conversion')} at the input and the outputs: {_listed(names)}"
    return [
        Loss("input-output", names, message, "nothing: they are floats", sum(times) if times else None, avoidable=False)
    ]


def _named_only(layers: Sequence[Layer], runtime: str) -> Iterator[Loss]:
    """Yield the copies, Qs and DQs of which no file tells more than the name."""
    hint = (
        "name the model's folder" if runtime == "openvino" else "add a log or layer information of detailed verbosity"
    )
    whats = {
        "copy": ("reformat", "copie"),
        "quantize": ("standalone-quantize", "Q"),
        "dequantize": ("standalone-dequantize", "DQ"),
    }
    for kind, (rule, what) in whats.items():
        alike = [layer for layer in layers if layer.kind == kind]
        if alike:
            names = tuple(dict.fromkeys(name for layer in alike for name in layer.nodes or (layer.name,)))
            thing = "1 copy" if (kind, len(alike)) == ("copy", 1) else counted(len(alike), what)
            yield Loss(
                rule,
                names,
                f"{thing} whose neighbours are not told: {_listed(names)}",
                f"{hint} to see why",
                _ms(alike),
            )


def _int8(layer: Layer) -> bool:
    return bool(INT8 & set(f"{layer.precision_in}+{layer.precision_out}".split("+")))


def _floating(layer: Layer) -> bool:
    """Return whether a layer computes, reads and writes floats alone."""
    kinds = set(f"{layer.precision_in}+{layer.precision_out}".split("+")) - {UNKNOWN}
    return layer.kind == "compute" and bool(kinds) and kinds <= FLOATS


def _islands(layers: Sequence[Layer], flow: _Flow) -> Iterator[list[Layer]]:
    """Yield groups of connected float layers that INT8 layers feed and that feed INT8 layers."""
    seen: set[int] = set()
    for start in layers:
        if id(start) in seen or not _floating(start):
            continue
        group, queue = [], [start]
        seen.add(id(start))
        while queue:
            layer = queue.pop()
            group.append(layer)
            for other in (*flow.computing(layer, forward=True), *flow.computing(layer, forward=False)):
                if id(other) not in seen and _floating(other):
                    seen.add(id(other))
                    queue.append(other)
        fed = any(_int8(other) for layer in group for other in flow.computing(layer, forward=False))
        feeding = any(_int8(other) for layer in group for other in flow.computing(layer, forward=True))
        if fed and feeding:
            order = {id(layer): index for index, layer in enumerate(layers)}
            yield sorted(group, key=lambda layer: order[id(layer)])


def _island_loss(group: Sequence[Layer], flow: _Flow) -> tuple[Loss, set[int]]:
    """Return the loss of a float island and the conversions at its edges."""
    near = [other for layer in group for other in (*flow.before(layer), *flow.after(layer)) if other.kind != "compute"]
    edges = list({id(layer): layer for layer in near}.values())
    for layer in edges:  # a copy may follow a quantizer
        near = [x for x in (*flow.before(layer), *flow.after(layer)) if x.kind != "compute"]
        edges += [x for x in near if all(x is not known for known in edges)]
    names = _names(group)
    within, around = ("" if _ms(part) is None else f" ({_ms(part):.4f} ms)" for part in (group, edges))
    message = (
        f"{counted(len(group), 'float layer')}{within} between INT8 layers, with "
        f"{counted(len(edges), 'conversion')} at the edges{around}: {_listed(names)}"
    )
    hint = "quantize these layers, or leave their neighbours float too"
    return Loss("float-island", names, message, hint, _ms([*group, *edges])), {id(layer) for layer in edges}


def _conversion_loss(layer: Layer, flow: _Flow) -> Loss:
    """Return the loss of a copy, or of a Q or DQ that is fused into nothing."""
    before, after = (_names(flow.computing(layer, forward=forward)) for forward in (False, True))
    own = _listed(layer.nodes or (layer.name,))
    if not layer.inputs and not layer.outputs:  # only its name is told
        names = layer.nodes or (layer.name,)
        if layer.kind == "copy":
            return Loss("reformat", names, f"a copy: {own}", "see its types in a detailed log", layer.ms)
        return Loss(
            f"standalone-{layer.kind}", names, f"{own} runs alone", "see what is next to it in a detailed log", layer.ms
        )
    if layer.kind == "copy":
        return _copy_loss(layer, before, after)
    alone = f"{own} runs alone ({layer.precision_in} to {layer.precision_out})"
    if layer.kind == "dequantize":
        message = f"{alone}, because {_listed(after) or 'the output'} reads floats"
        hint = "quantize what reads it, or leave what writes it float"
        return Loss("standalone-dequantize", layer.nodes, message, hint, layer.ms, bool(after))
    if not before:
        return Loss("standalone-quantize", layer.nodes, f"{alone} on the input", "", layer.ms, avoidable=False)
    readers = [other for tensor in layer.inputs for other in flow.readers.get(tensor.name, ())]
    others = _names([other for other in readers if other.kind == "compute"])
    if others:
        message, hint = (
            f"{alone}, because {_listed(others)} reads the same in float",
            "quantize all readers with one scale",
        )
    else:
        message, hint = f"{alone} behind {_listed(before)}", "put the Q right behind the activation of what writes it"
    return Loss("standalone-quantize", layer.nodes, message, hint, layer.ms)


def _copy_loss(layer: Layer, before: tuple[str, ...], after: tuple[str, ...]) -> Loss:
    places = f"from {_listed(before) or 'the input'} to {_listed(after) or 'the output'}"
    hint = "give both sides one type: quantize both, or neither"
    change = f"{layer.precision_in} to {layer.precision_out}"
    if layer.precision_in == layer.precision_out:
        laid = [tensor.format for tensor in (*layer.inputs[:1], *layer.outputs[:1])]
        change = f"the layout of {layer.precision_in}" + (f" ({' to '.join(laid)})" if all(laid) else "")
        hint = "behind a concat, give its parts one scale and multiples of 32 channels"
    return Loss(
        "reformat", after or before, f"a copy changes {change} {places}", hint, layer.ms, bool(before and after)
    )


def _single_precision(layers: Sequence[Layer]) -> Iterator[Loss]:
    """Yield the loss of layers that multiply in FP32."""
    found = [layer for layer in layers if _floating(layer) and layer.multiplies and "f32" in layer.precision_in]
    if found:
        message = f"FP32 products in {counted(len(found), 'layer')}: {_listed(_names(found))}"
        yield Loss("fp32", _names(found), message, "export the rest in FP16 (`half`)", _ms(found))


def _ms(layers: Iterable[Layer]) -> float | None:
    times = [layer.ms for layer in layers if layer.ms is not None]
    return sum(times) if times else None


def _names(layers: Iterable[Layer]) -> tuple[str, ...]:
    """Return for each layer the node that it is known by: the one that multiplies, else the first."""
    return tuple(dict.fromkeys(known_by(layer) for layer in layers))


def known_by(layer: Layer) -> str:
    """Return the ONNX node that a layer is known by: its convolution or product, else the first, else its own name."""
    nodes = [name for name in layer.nodes if "Quantize" not in name and not name.endswith((".weight", ".bias"))]
    multiplying = [name for name in nodes if Layer(name, nodes=(name,)).multiplies]
    return next(iter([*multiplying, *nodes, *layer.nodes]), layer.name)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
