"""OpenVINO's performance counters: the reports of its benchmark_app, and a model folder that is run here.

Source: `benchmark_app -report_type average_counters | detailed_counters`, as CSV or, with ``-json_stats``, as JSON; times in
milliseconds. ``execType`` ends with the precision that a node computes in, e.g. ``brgconv_avx512_I8``. OpenVINO's JSON of
average counters holds the first node alone (2026.4), so its detailed JSON or either CSV is asked for.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from yoloqat.engines.openvino_files import read_file
from yoloqat.engines.openvino_runtime import compile_model
from yoloqat.engines.reading.layer import Layer, Tensor, type_of
from yoloqat.errors import EngineError

_COLUMNS = ("layerName", "execStatus", "layerType", "execType", "realTime (ms)")
_RUNS = 10
_BIASES = "/WithoutBiases"


def is_counters(text: str) -> bool:
    """Return whether a text is a CSV of counters, by its first line that holds anything."""
    return text.lstrip().startswith(_COLUMNS[0])


def csv_counters(text: str) -> list[Layer]:
    """Return the nodes that a CSV report tells of, in order, with the mean time of all its runs.

    Raises:
        ValueError: A time is no number, or a column is missing.
    """
    head = text.lstrip().partition("\n")[0]
    rows = csv.reader(text.splitlines(), delimiter=";" if ";" in head else ",")
    columns: dict[str, int] = {}
    found = []
    for row in rows:
        if row[:1] == [_COLUMNS[0]]:
            columns = {name.strip(): index for index, name in enumerate(row)}
        elif columns and len(row) > max(columns[name] for name in _COLUMNS):
            found.append(tuple(row[columns[name]] for name in _COLUMNS))
    return _layers(found)


def json_counters(document: Mapping[str, Any], source: str) -> list[Layer]:
    """Return the nodes that a JSON report tells of.

    Args:
        document: The parsed file.
        source: The file, named in errors.

    Raises:
        EngineError: It is a report of averages, which holds one node alone.
        KeyError: A key is missing.
        ValueError: A time is no number.
    """
    runs = document["detailed_performance"] if "detailed_performance" in document else [document["avg_performance"]]
    nodes = [node for run in runs for node in run["nodes"]]
    if document.get("report_type") == "average" and len(nodes) == 1:
        raise EngineError(
            f"'{source}' holds one node, '{nodes[0]['name']}': OpenVINO writes no more into its JSON of average counters",
            expected="the counters of all nodes",
            hint="run benchmark_app with -report_type detailed_counters, or without -json_stats",
        )
    return _layers(
        [tuple(str(node[key]) for key in ("name", "status", "node_type", "exec_type", "real_time")) for node in nodes]
    )


def _layers(rows: Sequence[tuple[str, ...]]) -> list[Layer]:
    """Return a layer per executed node; rows hold name, status, type, kernel and milliseconds."""
    times: dict[str, list[float]] = {}
    layers: dict[str, Layer] = {}
    for name, status, kind, kernel, time in rows:
        if not status.endswith("EXECUTED"):
            continue
        times.setdefault(name, []).append(float(time))
        precision = type_of(kernel.rpartition("_")[2])
        layers[name] = Layer(name, kind, nodes=(name.removesuffix(_BIASES),), tactic=kernel, own_precision=precision)
    return [replace(layer, ms=float(np.mean(times[name]))) for name, layer in layers.items()]


def run_counters(directory: Path, *, threads: int = 1) -> list[Layer]:
    """Run the model of a folder and return the nodes of the runtime's own graph with their mean times.

    Source: `CompiledModel.get_runtime_model()`, whose nodes carry ``execTimeMcs`` where counting is on.

    Args:
        directory: What :func:`yoloqat.engines.build_openvino` or Ultralytics wrote.
        threads: Threads in all.

    Raises:
        ModelError: It is no such directory.
        EngineError: OpenVINO cannot compile or run it.
    """
    file = read_file(directory)
    compiled = compile_model(file.model, threads=threads, hint="latency", counters=True)
    shape = [side.get_length() if side.is_static else 1 for side in compiled.input(0).get_partial_shape()]
    request = compiled.create_infer_request()
    for _ in range(_RUNS):
        request.infer([np.zeros(shape, np.float32)])
    return list(_runtime_layers(compiled.get_runtime_model().get_ordered_ops()))


def _runtime_layers(nodes: Iterable[Any]) -> Iterable[Layer]:
    for node in nodes:
        kind, precision, kernel, time, fused = (_text(node, key) for key in _KEYS)
        if not re.fullmatch(r"[\d.]+", time):  # constants, and what was fused away
            continue
        inputs = [value.get_node() for value in node.input_values() if not _constant(value.get_node())]
        names = [name.removesuffix(_BIASES) for name in fused.split(",") if name]
        yield Layer(
            node.get_friendly_name(),
            kind,
            tuple(_tensor(x) for x in inputs),
            (_tensor(node),),
            tuple(dict.fromkeys(names)),
            kernel,
            ms=float(time) / 1e3,
            own_precision=type_of(precision),
        )


def _constant(node: Any) -> bool:
    """Return whether a node is a constant, or is computed of constants alone, as a reshaped bias."""
    sources = [value.get_node() for value in node.input_values()]
    return _text(node, "layerType") == "Const" or (bool(sources) and all(_constant(source) for source in sources))


_KEYS = ("layerType", "runtimePrecision", "primitiveType", "execTimeMcs", "originalLayersNames")


def _tensor(node: Any) -> Tensor:
    """Return what a node writes; the runtime's graph names tensors by their producers."""
    return Tensor(
        node.get_friendly_name(),
        type_of(_text(node, "outputPrecisions").partition(",")[0]),
        _text(node, "outputLayouts"),
    )


def _text(node: Any, key: str) -> str:
    value = node.get_rt_info()[key]
    return str(getattr(value, "value", value))
