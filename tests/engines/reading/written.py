"""A small engine as each tool writes it: an image, five convolutions, and everything that costs time.

    images -Q-> stem -> neck (writes FP16) -> dw (float) -Q-> tail -> out
                         neck -Q-> side

``neck`` is read by the depthwise ``dw`` in float and by the Q of ``side``, so that both Qs run alone; ``side`` is copied to
another layout, and ``tail`` is dequantized by ``out``, which multiplies in FP32.
"""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Written:
    name: str
    type: str
    reads: tuple[tuple[str, str], ...]
    writes: tuple[tuple[str, str], ...]
    ms: float
    nodes: str = ""
    formats: tuple[str, str] = ("", "")


WIDE, ROWS = "Thirty-two wide channel vectorized row major", "Row major"
LAYERS = (
    Written("stem/input/QuantizeLinear", "Reformat", (("images", "Float"),), (("q", "Int8"),), 0.01),
    Written(
        "stem.weight + stem + PWN(PWN(stem/sig), stem/mul)", "CaskConvolution", (("q", "Int8"),), (("a", "Int8"),), 0.05
    ),
    Written("neck.weight + neck", "CaskConvolution", (("a", "Int8"),), (("b", "Half"),), 0.04),
    Written("dw", "CaskDeconvolution", (("b", "Half"),), (("c", "Half"),), 0.03),
    Written("tail/input/QuantizeLinear", "Reformat", (("c", "Half"),), (("d", "Int8"),), 0.02),
    Written("tail.weight + tail", "CaskConvolution", (("d", "Int8"),), (("e", "Int8"),), 0.05),
    Written("side/input/QuantizeLinear_clone_1", "Reformat", (("b", "Half"),), (("f", "Int8"),), 0.02),
    Written("side.weight + side", "CaskConvolution", (("f", "Int8"),), (("g", "Int8"),), 0.06),
    Written(
        "Reformatting CopyNode for Input Tensor 1 to cat",
        "Reformat",
        (("g", "Int8"),),
        (("g'", "Int8"),),
        0.015,
        "",
        (WIDE, ROWS),
    ),
    Written("cat", "Concat", (("e", "Int8"), ("g'", "Int8")), (("h", "Int8"),), 0.01),
    Written("out/input/DequantizeLinear", "Reformat", (("h", "Int8"),), (("i", "Float"),), 0.01),
    Written("out", "CaskConvolution", (("i", "Float"),), (("output0", "Float"),), 0.08),
)
LOSSES = {
    "fp32": (0.08, ("out",)),
    "float-island": (0.05, ("dw",)),
    "reformat": (0.015, ("cat",)),
    "standalone-dequantize": (0.01, ("out/input/DequantizeLinear",)),
    "standalone-quantize": (0.02, ("side/input/QuantizeLinear",)),
    "input-output": (0.01, ("stem/input/QuantizeLinear",)),
}
"""Milliseconds and nodes of each loss; the Q of ``tail`` lies at the edge of the island."""


def trt_json(version: int, layers: tuple[Written, ...] = LAYERS) -> str:
    """Return what ``--exportLayerInfo`` writes: 8 without metadata, 10 with one key for format and type, 11 with two."""

    def tensor(name: str, kind: str, laid: str) -> dict[str, object]:
        entry: dict[str, object] = {"Name": name, "Dimensions": [1, 8, 4, 4]}
        if version == 11:
            return entry | {"Location": "Device", "Format": laid or "LINEAR", "DataType": kind}
        return entry | {"Format/Datatype": f"{laid} {kind} format" if laid else kind}

    def entry(layer: Written) -> dict[str, object]:
        found: dict[str, object] = {
            "Name": layer.name,
            "LayerType": layer.type,
            "Inputs": [tensor(*read, layer.formats[0]) for read in layer.reads],
            "Outputs": [tensor(*written, layer.formats[1]) for written in layer.writes],
            "TacticName": "sm80_xmma",
        }
        return found | ({} if version == 8 else {"StreamId": 0, "Metadata": metadata(layer)})

    names = {"I/O Tensors": []} if version == 11 else {"Bindings": ["images", "output0"]}
    return json.dumps({"Layers": [entry(layer) for layer in layers], **names})


def metadata(layer: Written) -> str:
    from yoloqat.engines.reading.layer import nodes_of

    return "\x1e".join(f"[ONNX Layer: {name}]" for name in nodes_of(layer.name) if not name.endswith(".weight"))


def trt_profile(layers: tuple[Written, ...] = LAYERS, *, median: bool = True) -> str:
    rows = [{"name": layer.name, "timeMs": 9, "averageMs": 2 * layer.ms, "percentage": 1} for layer in layers]
    timed = [
        row | ({"medianMs": layer.ms} if median else {"averageMs": layer.ms})
        for row, layer in zip(rows, layers, strict=True)
    ]
    return json.dumps([{"count": 100}, *timed])


def trt_log(form: str) -> str:
    """Return a log with layers and profile in the form of ``"8.2"``, ``"8.6"`` or ``"10 detailed"``."""

    def short(layer: Written) -> str:
        pattern = "{}[{}(1,8,4,4)]" if form == "8.2" else "{} ({}[1,8:32,4,4])"
        reads, writes = (", ".join(pattern.format(*one) for one in side) for side in (layer.reads, layer.writes))
        return f"Layer({layer.type}): {layer.name}, Tactic: 0x00000000000003ea, {reads} -> {writes}"

    def long(layer: Written) -> str:
        def tensors(side: tuple[tuple[str, str], ...], laid: str) -> str:
            types = ((name, f"{laid} {kind} format" if laid else kind) for name, kind in side)
            place = "Location: Device, Dimensions: [1,8,4,4], Format/Datatype"
            return f"[ {', '.join(f'{{ Name: {name}, {place}: {kind} }}' for name, kind in types)}]"

        return (
            f"Name: {layer.name}, LayerType: {layer.type}, Inputs: {tensors(layer.reads, layer.formats[0])}, Outputs: "
            f"{tensors(layer.writes, layer.formats[1])}, ParameterType: Convolution, Weights: {{ Type: Int8, Count: 9 }}, "
            f"TacticName: sm80_xmma, StreamId: 0, Metadata: {metadata(layer)}"
        )

    detailed = form == "10 detailed"
    head = "Layers:" if detailed else "Engine Layer Information:"
    lines = [
        f"[01/02/2025-10:00:00] [V] [TRT] {head}",
        *(long(layer) if detailed else short(layer) for layer in LAYERS),
        "Bindings:",
    ]
    lines += ["[01/02/2025-10:00:09] [I] === Profile (100 iterations ) ==="]
    if form == "8.2":
        lines += ["[01/02/2025-10:00:09] [I]    Layer   Time (ms)   Avg. Time (ms)   Time %"]
        lines += [f"[01/02/2025-10:00:09] [I]   {x.name}    9.10    {x.ms:.4f}    4.9" for x in LAYERS]
        lines += ["[01/02/2025-10:00:09] [I]   Total    9.10    1.0000    100.0"]
    else:
        lines += ["[01/02/2025-10:00:09] [I]    Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer"]
        lines += [
            f"[01/02/2025-10:00:09] [I]       9.10       9.0000       {x.ms:.4f}       4.9   {x.name}" for x in LAYERS
        ]
        lines += ["[01/02/2025-10:00:09] [I]       9.10       9.0000       1.0000     100.0   Total"]
    return "\n".join(lines)
