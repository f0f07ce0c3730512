"""A whole prediction: the layers of an engine, what it loses and why, and the same model in FP16 and with implicit INT8."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from yoloqat.errors import ModelError
from yoloqat.linting.fusion.gpus import GPUS
from yoloqat.linting.fusion.losses import Loss, losses_of
from yoloqat.linting.fusion.model import INT8, Kind, PredictedLayer
from yoloqat.linting.fusion.net import net_of
from yoloqat.linting.fusion.predict import predict_net
from yoloqat.linting.fusion.reference import in_half, in_implicit_int8
from yoloqat.linting.graph import prepare
from yoloqat.linting.run import read_model
from yoloqat.linting.trt_version import TENSORRT_10


@dataclass(frozen=True)
class Total:
    """What all layers of a predicted engine come to.

    Attributes:
        layers: How many there are.
        standalone: Qs, DQs and copies among them.
        bytes: Moved in one forward.
        macs: Multiply-adds of one forward.
        int8_mac_share: Share of these whose inputs are INT8; None without any.
        time_ms: Sum of the layers' least times by GPU name, in milliseconds.
    """

    layers: int
    standalone: int
    bytes: int
    macs: int
    int8_mac_share: float | None
    time_ms: dict[str, float]


def total(layers: Sequence[PredictedLayer]) -> Total:
    """Sum layers up."""
    macs = sum(layer.macs for layer in layers)
    integers = sum(layer.macs for layer in layers if layer.precision_in == INT8)
    times = {name: sum(layer.time_ms[name] for layer in layers) for name in GPUS}
    alone, moved = sum(layer.standalone for layer in layers), sum(layer.bytes for layer in layers)
    return Total(len(layers), alone, moved, macs, integers / macs if macs else None, times)


@dataclass(frozen=True)
class Prediction:
    """The engine that TensorRT is predicted to build from a file; nothing of it is measured.

    Attributes:
        layers: In order of execution.
        losses: What makes it slower than it could be, by falling cost on the default GPU.
        total: Of the file.
        half: Of the same model in FP16.
        implicit_int8: Of the same model with implicit INT8, at best.
        open_inputs: Inputs with open or unknown sizes, each of which counts as one.
    """

    layers: tuple[PredictedLayer, ...]
    losses: tuple[Loss, ...]
    total: Total
    half: Total
    implicit_int8: Total
    open_inputs: tuple[str, ...] = ()

    def of_kind(self, kind: Kind) -> tuple[PredictedLayer, ...]:
        """Return the layers of one kind."""
        return tuple(layer for layer in self.layers if layer.kind is kind)

    def to_dict(self) -> dict[str, Any]:
        """Return ``{predicted, predicted_losses, predicted_totals, predicted_open_inputs}``, JSON-able."""
        totals = {"file": self.total, "half": self.half, "implicit_int8": self.implicit_int8}
        return {
            "predicted": [layer.to_dict() for layer in self.layers],
            "predicted_losses": [loss.to_dict() for loss in self.losses],
            "predicted_totals": {name: asdict(found) for name, found in totals.items()},
            "predicted_open_inputs": list(self.open_inputs),
        }


def predict_model(model: onnx.ModelProto) -> Prediction:
    """Predict TensorRT's engine for a model; nothing is run.

    Args:
        model: Anybody's QDQ file, or a float one; open sizes count as one.

    Raises:
        ModelError: The shapes of its tensors cannot be inferred, or nodes lack inputs or outputs, or read what comes later.
    """
    net = net_of(model, prepare(model, TENSORRT_10))
    try:
        layers = predict_net(net)
        half, implicit = (total(predict_net(other)) for other in (in_half(net), in_implicit_int8(net)))
    except (LookupError, ValueError) as error:  # as a file that is no valid graph gives; every other walk is total
        raise ModelError(
            f"its graph of {len(net.ops)} operators cannot be followed ({type(error).__name__}: {error!s:.80})",
            expected="a valid graph",
            hint="lint it without `explain` and repair what is found first",
        ) from error
    opened = tuple(sorted(name for name in net.inputs if not all(net.shapes.get(name) or (0,))))
    return Prediction(layers, losses_of(layers), total(layers), half, implicit, opened)


def predict_file(path: Path) -> Prediction:
    """Predict TensorRT's engine for an ONNX file.

    Raises:
        ModelError: The file cannot be read, or the shapes of its tensors cannot be inferred.
    """
    return predict_model(read_model(path))


def kinds_of(layers: Iterable[PredictedLayer]) -> dict[tuple[Kind, str, str], list[PredictedLayer]]:
    """Return layers by what they do, read and write, in the order in which the first of each comes."""
    found: dict[tuple[Kind, str, str], list[PredictedLayer]] = {}
    for layer in layers:
        found.setdefault((layer.kind, layer.precision_in, layer.precision_out), []).append(layer)
    return found
