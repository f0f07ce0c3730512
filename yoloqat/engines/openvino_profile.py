"""How long OpenVINO's nodes run, by its own performance counters, several models in turn."""

from __future__ import annotations

from collections.abc import Mapping
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
    """Milliseconds of each node of one forward: the least of several, since whatever else a machine does only adds to them.

    Attributes:
        nodes: By name, in order of execution.
    """

    nodes: Mapping[str, float]

    @property
    def latency_ms(self) -> float:
        """Of the whole: the sum of its nodes, which a busy machine disturbs far less than a whole forward."""
        return sum(self.nodes.values())

    def by_layer(self, layers: Mapping[str, str]) -> dict[str, float]:
        """Return the milliseconds of each layer, with those of the nodes before it that belong to no layer.

        What joins, divides, pools or converts tensors belongs to the layer that runs next; what runs after the last layer is
        left out.

        Args:
            layers: Names of nodes in the file, to the layer that each is; each layer has an entry, of 0 where it did not run by
                itself.
        """
        found = dict.fromkeys(layers.values(), 0.0)
        before = 0.0
        for node, ms in self.nodes.items():
            name = node.removesuffix(_WITHOUT).removesuffix(SUFFIX)
            before += ms
            if name in layers:
                found[layers[name]] += before
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
            read_file(path).model, threads=threads, hint="latency", counters=True
        ).create_infer_request()
        for name, path in models.items()
    }
    parts: dict[str, list[Mapping[str, float]]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, request in requests.items():
            request.infer([images])
            if turn:  # the first warms up
                parts[name].append(_counted(request))
        progress("profile", turn, rounds)
    return {
        name: Profile({node: min(part.get(node, 0.0) for part in turns) for node in turns[0]})
        for name, turns in parts.items()
    }


def _counted(request: Any) -> dict[str, float]:
    return {
        entry.node_name: 1e3 * entry.real_time.total_seconds()
        for entry in request.profiling_info
        if entry.status.name == _EXECUTED
    }
