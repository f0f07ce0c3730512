"""What makes a predicted engine slower than it could be, with what each costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from yoloqat.linting.fusion.gpus import DEFAULT_GPU, GPUS
from yoloqat.linting.fusion.model import FLOAT, INT8, Kind, PredictedLayer
from yoloqat.linting.fusion.roofline import times_ms
from yoloqat.results import counted

MIXED, ISLAND, REMAINDER, CONCAT, CONVERSION = (
    "mixed-reader",
    "float-island",
    "fp32-remainder",
    "concat-channels",
    "conversion",
)


@dataclass(frozen=True)
class Loss:
    """One thing that costs time.

    Attributes:
        kind: ``"mixed-reader"``: an output read in INT8 and in float; ``"float-island"``: a float layer between INT8 layers, with
            the Q and DQ around it; ``"fp32-remainder"``: FP32 work between INT8 layers; ``"concat-channels"``: a
            copied part of a concat, or slice, whose channels do not fill blocks; ``"conversion"``: another standalone Q or DQ.
        nodes: Names of the nodes that it is about.
        message: What it is.
        bytes: Bytes moved for it.
        time_ms: What it adds to the least time, by GPU name, in milliseconds.
    """

    kind: str
    nodes: tuple[str, ...]
    message: str
    bytes: int
    time_ms: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return ``{kind, nodes, message, bytes, time_ms}``, JSON-able."""
        return asdict(self) | {"nodes": list(self.nodes)}


def _loss(kind: str, layers: Sequence[PredictedLayer], message: str, saved: int = 0) -> Loss:
    """Return a loss that costs the time of ``layers`` and of ``saved`` more bytes."""
    moved = sum(layer.bytes for layer in layers) + saved
    extra = times_ms(kind=Kind.REFORMAT, precision=FLOAT, moved=saved, macs=0)
    times = {name: extra[name] + sum(layer.time_ms[name] for layer in layers) for name in GPUS}
    nodes = tuple(dict.fromkeys(node for layer in layers for node in layer.nodes))
    return Loss(kind, nodes, message, moved, times)


def _between(layers: Sequence[PredictedLayer]) -> Sequence[PredictedLayer]:
    """Return the layers from the first that writes INT8 to the last that reads it."""
    reading = [index for index, layer in enumerate(layers) if layer.precision_in == INT8]
    writing = [index for index, layer in enumerate(layers) if layer.precision_out == INT8]
    return layers[writing[0] : reading[-1] + 1] if reading and writing else ()


def _slower(layer: PredictedLayer, precision: str, size: float) -> dict[str, float]:
    """Return what a layer takes longer than with its bytes times ``size`` and its product in ``precision``."""
    other = times_ms(kind=layer.kind, precision=precision, moved=round(layer.bytes * size), macs=layer.macs)
    return {name: layer.time_ms[name] - other[name] for name in GPUS}


def _islands(layers: Sequence[PredictedLayer]) -> Iterator[Loss]:
    around = [layer for layer in layers if layer.kind in (Kind.QUANTIZE, Kind.DEQUANTIZE)]
    for layer in layers:
        if layer.kind is not Kind.CONVOLUTION or layer.precision_in == INT8:
            continue
        name = layer.nodes[0]
        behind = [found for found in around if f"'{name}' runs in float" in found.cause]
        if not behind:
            continue
        before = [found for found in around if found.kind is Kind.DEQUANTIZE and name in found.nodes]
        slower, width = _slower(layer, INT8, 0.25 if layer.precision_in == FLOAT else 0.5), (*before, *behind)
        base = _loss(ISLAND, width, f"'{name}' runs in float between INT8 layers")
        times = {gpu: base.time_ms[gpu] + slower[gpu] for gpu in GPUS}
        yield Loss(ISLAND, (name, *base.nodes), base.message, base.bytes, times)


def losses_of(layers: Sequence[PredictedLayer]) -> tuple[Loss, ...]:
    """Return what makes layers slower than they could be, by falling cost on the default GPU."""
    found: list[Loss] = []
    islands = list(_islands(layers))
    told = {node for loss in islands for node in loss.nodes[:1]}
    for layer in layers:
        if layer.kind is Kind.QUANTIZE and "mixed-reader" in layer.rules:
            found.append(
                _loss(MIXED, [layer], layer.cause, layer.bytes // 3)
            )  # what was written in float instead of INT8
        elif layer.kind in (Kind.QUANTIZE, Kind.DEQUANTIZE) and layer.cause and not told & set(layer.nodes):
            found.append(_loss(CONVERSION, [layer], layer.cause))
        elif layer.kind is Kind.REFORMAT and "concat-channels" in layer.rules:
            found.append(_loss(CONCAT, [layer], f"'{layer.name.removesuffix(' copy')}' is copied: {layer.cause}"))
    wide = [layer for layer in _between(layers) if layer.precision_in == layer.precision_out == FLOAT]
    if wide:
        slower = [_slower(layer, "f16", 0.5) for layer in wide]
        times = {gpu: sum(one[gpu] for one in slower) for gpu in GPUS}
        names = tuple(dict.fromkeys(node for layer in wide for node in layer.nodes))
        many = f"{counted(len(wide), 'layer')} from the first INT8 layer to the last"
        message = f"{many} in FP32, '{names[0]}' first"
        found.append(Loss(REMAINDER, names, message, sum(layer.bytes for layer in wide) // 2, times))
    return tuple(sorted((*islands, *found), key=lambda loss: -loss.time_ms[DEFAULT_GPU]))
