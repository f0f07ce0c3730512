"""What TensorRT's engine inspector tells: the precision of each convolution, and which reformats were added.

Source: `EngineInspector.get_engine_information` of TensorRT 10 and 11, whose two forms :mod:`yoloqat.engines.reading.trt_json`
reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from yoloqat.engines.precision import LayerPrecision, PrecisionMap
from yoloqat.engines.reading.layer import UNKNOWN, Layer
from yoloqat.engines.reading.trt_json import json_layer
from yoloqat.errors import EngineError

CONVOLUTION = "Convolution"
_INT8_TACTIC = re.compile(r"i8i32|s8s8s32", re.IGNORECASE)  # 8-bit products summed in 32 bits


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


def _precision(layer: Layer) -> str:
    """Return what a layer computes in: by its kernel, else its first input, else its weights."""
    first = layer.inputs[0].type if layer.inputs else UNKNOWN
    candidates = ("i8" if _INT8_TACTIC.search(layer.tactic) else UNKNOWN, first, layer.weights)
    return next((found for found in candidates if found != UNKNOWN), UNKNOWN)


def _convolves(layer: Layer) -> bool:
    return any(word in layer.type.lower() for word in ("conv", "correlation", "gemm", "fusion"))


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
        layers = [json_layer(entry) for entry in entries]
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
        shown += [LayerPrecision(name, CONVOLUTION, _precision(layer), layer.tactic, macs[name]) for name in own]
        if not own:
            shown.append(LayerPrecision(layer.name, layer.type, _precision(layer), layer.tactic, 0))
    shown += [LayerPrecision(name, CONVOLUTION, UNKNOWN, "", macs[name]) for name in macs if name not in owner]
    return EngineLayers(
        PrecisionMap(tuple(shown), frozenset(quantized)),
        tuple(layer.name for layer in layers if layer.kind == "copy"),
        any(isinstance(entry, Mapping) for entry in entries),
    )


def _owners(layers: list[Layer], macs: Collection[str]) -> dict[str, int]:
    """Return for each convolution the layer that computes it: the first that convolves, else the first that names it."""
    owner: dict[str, int] = {}
    for rank in (True, False):
        for index, layer in enumerate(layers):
            if layer.kind == "copy" or _convolves(layer) is not rank:
                continue
            for name in layer.nodes:
                if name in macs:
                    owner.setdefault(name, index)
    return owner
