"""Two TensorRT engines as trtexec writes of them, made by hand: layer information and a profile of either generation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yoloqat.engines.reading.layer import nodes_of

Sides = tuple[int, ...]


@dataclass(frozen=True)
class Ran:
    """A layer of an engine: its types as TensorRT calls them, and the shape of what it reads."""

    name: str
    ms: float
    reads: str = "Int8"
    writes: str = "Int8"
    shape: Sides = (1, 8, 4, 4)
    type: str = "CaskConvolution"


def reformat(name: str, ms: float, reads: str, writes: str, shape: Sides = (1, 8, 4, 4)) -> Ran:
    return Ran(name, ms, reads, writes, shape, "Reformat")


def layer_info(layers: Sequence[Ran], version: int) -> str:
    """Return what ``--exportLayerInfo`` writes: of 8.6 fused names alone, from 10 on also the ONNX nodes, in 11 types apart."""

    def tensor(name: str, kind: str, shape: Sides) -> dict[str, object]:
        typed = {"Format": "LINEAR", "DataType": kind} if version == 11 else {"Format/Datatype": kind}
        return {"Name": name, "Dimensions": list(shape), **typed}

    entries = []
    for number, layer in enumerate(layers):
        nodes = (name for name in nodes_of(layer.name) if not name.endswith(".weight"))
        metadata = "\x1e".join(f"[ONNX Layer: {name}]" for name in nodes)
        entry: dict[str, object] = {
            "Name": layer.name if version == 8 or not metadata else f"__fused_{number}",
            "LayerType": layer.type,
            "Inputs": [tensor(f"t{number}", layer.reads, layer.shape)],
            "Outputs": [tensor(f"t{number + 1}", layer.writes, (1, 8, 4, 4))],
        }
        entries.append(entry | ({} if version == 8 else {"Metadata": metadata}))
    return json.dumps({"Layers": entries, "Bindings": ["images", "output0"]})


def times(layers: Sequence[Ran], version: int) -> str:
    """Return what ``--exportProfile`` writes."""
    names = [entry["Name"] for entry in json.loads(layer_info(layers, version))["Layers"]]
    key = "averageMs" if version == 8 else "medianMs"
    rows = [{"name": name, "timeMs": 9, key: layer.ms} for name, layer in zip(names, layers, strict=True)]
    return json.dumps([{"count": 100}, *rows])


def written(folder: Path, name: str, layers: Sequence[Ran], version: int = 10) -> tuple[Path, Path]:
    """Write both files of an engine and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{name}_layers.json", folder / f"{name}_times.json"
    for path, text in zip(paths, (layer_info(layers, version), times(layers, version)), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths
