"""TensorRT's layer information and profile as JSON, of 8.6, 10 and 11.

Source: `IEngineInspector` of TensorRT and `trtexec --exportLayerInfo`, `--exportProfile`. Built without detailed verbosity each
layer is a plain name; with it an object with ``Name``, ``LayerType``, ``Inputs``, ``Outputs``, ``TacticName`` and, from 10 on,
``Metadata``, the ONNX nodes that it computes. A tensor's type lies in ``Format/Datatype`` up to 10, beside the format or alone,
and in ``DataType`` (of older 11: ``Datatype``) in 11. A profile is a list of ``name`` and ``averageMs``, from 8.5 on with
``medianMs``, after one entry with the ``count`` of runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from yoloqat.engines.reading.layer import UNKNOWN, Layer, Tensor, nodes_of, shape_of, type_of

_ONNX_LAYER = re.compile(r"\[ONNX Layer: (.*?)\](?=[\x1e\x1f,\s]|$)")
_TYPE_KEYS = ("DataType", "Datatype", "Format/Datatype", "Format/DataType")


def metadata_nodes(metadata: str) -> tuple[str, ...]:
    """Return the ONNX nodes that a layer's ``Metadata`` names."""
    return tuple(dict.fromkeys(_ONNX_LAYER.findall(metadata)))


def json_layer(entry: Any) -> Layer:
    """Return a layer from its entry in ``Layers``, an object or a plain name.

    Raises:
        ValueError: The entry is neither.
    """
    if isinstance(entry, str):
        return Layer(entry, nodes=nodes_of(entry))
    if not isinstance(entry, Mapping):
        raise ValueError(f"a layer is {entry!r:.60}, neither an object nor a name")
    name, kind, tactic = (str(entry.get(key, "")) for key in ("Name", "LayerType", "TacticName"))
    if "Convolution" in str(entry.get("ParameterType", "")) and "conv" not in kind.lower():
        kind = f"{kind} {entry['ParameterType']}"
    weights = entry.get("Weights")
    return Layer(
        name,
        kind or UNKNOWN,
        _tensors(entry.get("Inputs")),
        _tensors(entry.get("Outputs")),
        metadata_nodes(str(entry.get("Metadata", ""))) or nodes_of(name),
        tactic,
        type_of(str(weights.get("Type", ""))) if isinstance(weights, Mapping) else UNKNOWN,
    )


def _tensors(entries: Any) -> tuple[Tensor, ...]:
    return tuple(_tensor(entry) for entry in entries) if isinstance(entries, list) else ()


def _tensor(entry: Any) -> Tensor:
    if not isinstance(entry, Mapping):
        return Tensor(str(entry))
    text = next((str(entry[key]) for key in _TYPE_KEYS if key in entry), "")
    laid = str(entry.get("Format") or entry.get("Format/Datatype") or "")
    sides = entry.get("Dimensions")
    shape = shape_of(",".join(map(str, sides))) if isinstance(sides, list) else ()
    return Tensor(str(entry.get("Name", "")), type_of(text), laid, shape)


def json_times(entries: Sequence[Any]) -> list[tuple[str, float]]:
    """Return name and milliseconds of each layer of a profile, in order; the median where it is told.

    Raises:
        ValueError: A time is no number, negative, infinite or NaN.
    """
    found = []
    for entry in entries:
        if isinstance(entry, Mapping) and "name" in entry:
            ms = float(entry.get("medianMs", entry.get("averageMs", "none")))
            if not (math.isfinite(ms) and ms >= 0):
                raise ValueError(f"'{entry['name']}' takes {ms} ms")
            found.append((str(entry["name"]), ms))
    return found
