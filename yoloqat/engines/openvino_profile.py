"""How long OpenVINO's nodes run, by its own performance counters, several models in turn."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloqat.engines.openvino_files import read_file
from yoloqat.engines.openvino_runtime import compile_model
from yoloqat.engines.rewrite.split import SUFFIX
from yoloqat.predictor import Images
from yoloqat.progress import Progress, silent

_EXECUTED = "EXECUTED"
_WITHOUT = "/WithoutBiases"


@dataclass(frozen=True)
class Profile:
    """Milliseconds of one forward, each the least of several: whatever else a machine does only adds to them.

    Attributes:
        latency_ms: Of the whole, as the caller sees it.
        nodes: Of each node that ran, in order of execution.
    """

    latency_ms: float
    nodes: Mapping[str, float]

    def by_layer(self, layers: Collection[str]) -> dict[str, float]:
        """Return the milliseconds of each layer, with those of the nodes before it that belong to no layer.

        What joins, divides, pools or converts tensors belongs to the layer that runs next; what runs after the last layer is
        left out.

        Args:
            layers: Names of the layers as in the file; each has an entry, of 0 where it did not run by itself.
        """
        found = dict.fromkeys(layers, 0.0)
        before = 0.0
        for node, ms in self.nodes.items():
            name = node.removesuffix(_WITHOUT).removesuffix(SUFFIX)
            before += ms
            if name in found:
                found[name] += before
                before = 0.0
        return found


def profile_models(
    models: Mapping[str, Path], images: Images, *, threads: int, rounds: int = 40, progress: Progress = silent
) -> dict[str, Profile]:
    """Run models in turn (A B C A B C ...) and return how long they and their nodes take.

    Args:
        models: Directories that :func:`yoloqat.engines.build_openvino` wrote, by name.
        images: One batch, shape (batch, 3, height, width), float32.
        threads: Threads in all.
        rounds: Timed forwards of each.
        progress: Told of every round.

    Raises:
        EngineError: OpenVINO cannot compile or run a model.
        ModelError: A directory is missing or damaged.
    """
    requests = {
        name: compile_model(
            read_file(path).model, threads=threads, hint="latency", profiled=True
        ).create_infer_request()
        for name, path in models.items()
    }
    whole: dict[str, list[float]] = {name: [] for name in models}
    parts: dict[str, list[Mapping[str, float]]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, request in requests.items():
            start = time.perf_counter()
            request.infer([images])
            seconds = time.perf_counter() - start
            if turn:  # the first warms up
                whole[name].append(1e3 * seconds)
                parts[name].append(_counted(request))
        progress("profile", turn, rounds)
    return {
        name: Profile(
            min(whole[name]), {node: min(part.get(node, 0.0) for part in parts[name]) for node in parts[name][0]}
        )
        for name in models
    }


def _counted(request: Any) -> dict[str, float]:
    return {
        entry.node_name: 1e3 * entry.real_time.total_seconds()
        for entry in request.profiling_info
        if entry.status.name == _EXECUTED
    }
