"""What TensorRT's engine inspector tells: the precision of each convolution, and which reformats were added.

Source: `EngineInspector.get_engine_information` of TensorRT 10 and 11. Both give an object with ``Layers``. Built without
detailed verbosity each layer is a plain name; with it an object with ``Name``, ``LayerType``, ``Inputs``, ``Outputs``,
``TacticName`` and ``Metadata``, the ONNX nodes that it computes. A tensor's type lies in ``Format/Datatype`` in 10, beside
the format or alone, and in ``DataType`` (of older 11: ``Datatype``) in 11.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from yoloqat.engines.precision import LayerPrecision, PrecisionMap
from yoloqat.errors import EngineError

UNKNOWN = "unknown"
CONVOLUTION = "Convolution"
_ONNX_LAYER = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f,\s]|$)")
_INT8_TACTIC = re.compile(r"i8i32|s8s8s32", re.IGNORECASE)  # 8-bit products summed in 32 bits
_TYPE_KEYS = ("DataType", "Datatype", "Format/Datatype", "Format/DataType")
_TYPES = (
    (r"uint8", "u8"),
    (r"int8", "i8"),
    (r"fp8|float8", "f8"),
    (r"bfloat16|bf16", "bf16"),
    (r"fp16|half|float16", "f16"),
    (r"fp32|float", "f32"),
    (r"int32", "i32"),
    (r"int64", "i64"),
    (r"int4", "i4"),
    (r"bool", "bool"),
)


@dataclass(frozen=True)
class EngineLayers:
    """What an engine runs.

    Attributes:
        precision: Each layer and its precision; a convolution goes by its name in the ONNX file.
        reformats: Names of the copies that TensorRT added to change a tensor's format or type.
        detailed: Whether the engine was built to tell the precisions; where not, they are ``"unknown"``.
    """

    precision: PrecisionMap
    reformats: tuple[str, ...]
    detailed: bool


@dataclass(frozen=True)
class _Layer:
    """One layer of the engine, from either form."""

    name: str
    type: str
    precision: str
    tactic: str
    nodes: tuple[str, ...]

    @property
    def reformats(self) -> bool:
        return "reformat" in self.type.lower() or self.name.startswith("Reformatting CopyNode")

    @property
    def convolves(self) -> bool:
        return any(word in self.type.lower() for word in ("conv", "correlation", "gemm", "fusion"))


def _type(tensor: Any) -> str:
    if not isinstance(tensor, Mapping):
        return UNKNOWN
    text = next((str(tensor[key]) for key in _TYPE_KEYS if key in tensor), "")
    return next((short for pattern, short in _TYPES if re.search(pattern, text, re.IGNORECASE)), UNKNOWN)


def _first(tensors: Any) -> str:
    return _type(tensors[0]) if isinstance(tensors, list) and tensors else UNKNOWN


def _layer(entry: Any) -> _Layer:
    if not isinstance(entry, Mapping):
        return _Layer(str(entry), UNKNOWN, UNKNOWN, "", _parts(str(entry)))
    name, kind, tactic = (str(entry.get(key, "")) for key in ("Name", "LayerType", "TacticName"))
    if "Convolution" in str(entry.get("ParameterType", "")) and "conv" not in kind.lower():
        kind = f"{kind} {entry['ParameterType']}"
    weights = entry.get("Weights")
    weight_type = _type({"DataType": weights.get("Type", "")}) if isinstance(weights, Mapping) else UNKNOWN
    candidates = ("i8" if _INT8_TACTIC.search(tactic) else UNKNOWN, _first(entry.get("Inputs")), weight_type)
    precision = next((found for found in candidates if found != UNKNOWN), UNKNOWN)
    nodes = tuple(_ONNX_LAYER.findall(str(entry.get("Metadata", ""))))
    return _Layer(name, kind or UNKNOWN, precision, tactic, nodes or _parts(name))


def _parts(name: str) -> tuple[str, ...]:
    """Return the nodes that a fused layer's name joins."""
    return tuple(part.strip() for part in re.split(r" \+ | \|\| ", name))


def engine_layers(text: str, macs: Mapping[str, int], quantized: Collection[str]) -> EngineLayers:
    """Read the inspector's JSON.

    A convolution may be part of several layers, e.g. of the reformat of its weights; the one that convolves counts. One
    that no layer names keeps the precision ``"unknown"``.

    Args:
        text: `EngineInspector.get_engine_information(LayerInformationFormat.JSON)`.
        macs: Multiply-adds of each convolution of the ONNX file, by node name; the file's convolutions are its keys.
        quantized: Names of the layers that the file quantizes.

    Raises:
        EngineError: It is no such JSON.
    """
    try:
        entries = json.loads(text)["Layers"]
        layers = [_layer(entry) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"the engine inspector gave {text[:80]!r} ({type(error).__name__}: {error})",
            expected="JSON with 'Layers'",
            hint="build the engine with TensorRT 10.12 to 11",
        ) from error
    owner = _owners(layers, macs)
    shown = []
    for index, layer in enumerate(layers):
        own = [name for name in dict.fromkeys(layer.nodes) if owner.get(name) == index]
        shown += [LayerPrecision(name, CONVOLUTION, layer.precision, layer.tactic, macs[name]) for name in own]
        if not own:
            shown.append(LayerPrecision(layer.name, layer.type, layer.precision, layer.tactic, 0))
    shown += [LayerPrecision(name, CONVOLUTION, UNKNOWN, "", macs[name]) for name in macs if name not in owner]
    return EngineLayers(
        PrecisionMap(tuple(shown), frozenset(quantized)),
        tuple(layer.name for layer in layers if layer.reformats),
        any(isinstance(entry, Mapping) for entry in entries),
    )


def _owners(layers: list[_Layer], macs: Collection[str]) -> dict[str, int]:
    """Return for each convolution the layer that computes it: the first that convolves, else the first that names it."""
    owner: dict[str, int] = {}
    for rank in (True, False):
        for index, layer in enumerate(layers):
            if layer.reformats or layer.convolves is not rank:
                continue
            for name in layer.nodes:
                if name in macs:
                    owner.setdefault(name, index)
    return owner
