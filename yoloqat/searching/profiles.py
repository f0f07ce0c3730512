"""The latency table that follows from profiles of two TensorRT engines, as `trtexec` wrote them: all in INT8, and float."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloqat.engines.reading import EngineReport, Layer, read_reports
from yoloqat.engines.reading.layer import FLOATS, INT8
from yoloqat.engines.reading.report import runs_int8
from yoloqat.errors import ConfigError, EngineError
from yoloqat.linting.fusion import DEFAULT_GPU, GPUS, HALF, Kind
from yoloqat.linting.fusion import INT8 as INT8_TYPE
from yoloqat.linting.fusion.roofline import roofline_ms
from yoloqat.onnx_graph.names import module_path
from yoloqat.onnx_graph.operators import LAYER_OPS
from yoloqat.provenance import file_sha256
from yoloqat.results import counted
from yoloqat.searching.latency import LatencyTable

PROFILED = "tensorrt profile"
"""Source of a table that was read from profiles."""

ROOFLINE = f"roofline of {DEFAULT_GPU}, at the pace of the profile"
"""Source of what profiles do not tell: least times, times what the layers of the profile take longer than theirs."""

_CHANNELS = 4
_AGAIN = re.compile(r"_\d+$")
_POINTWISE = re.compile(r"^PWN\(|PointWise", re.IGNORECASE)


@dataclass(frozen=True)
class ProfileFiles:
    """The files of two engines of one model at the same image size.

    Attributes:
        int8: What tells of the engine with every layer in INT8: `--exportProfile`, `--exportLayerInfo`, or logs.
        floating: The same of the float engine, in FP16 or FP32.
    """

    int8: tuple[Path, ...]
    floating: tuple[Path, ...]

    @classmethod
    def of(
        cls, int8: str | Path | Sequence[str | Path], floating: str | Path | Sequence[str | Path]
    ) -> ProfileFiles | None:
        """Return the files as given; None where there are none.

        Raises:
            ConfigError: Files of one engine alone are named.
        """
        files = {"int8_profile": _paths(int8), "float_profile": _paths(floating)}
        named = [name for name, paths in files.items() if paths]
        if len(named) == 1:
            (other,) = files.keys() - set(named)
            raise ConfigError(
                f"{named[0]} is '{files[named[0]][0]}' and {other} is not named",
                expected="profiles of both engines",
                hint=f"name `{other}` too, or neither",
            )
        return cls(*files.values()) if named else None

    def to_dict(self) -> dict[str, list[dict[str, str]]]:
        """Return path and hash of every file, JSON-able."""
        both = {"int8": self.int8, "float": self.floating}
        return {
            name: [{"path": str(path), "sha256": file_sha256(path)} for path in paths] for name, paths in both.items()
        }

    def digests(self) -> dict[str, list[str]]:
        """Return the hash of every file, which is all that numbers depend on."""
        return {name: [file["sha256"] for file in files] for name, files in self.to_dict().items()}


def _paths(files: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    return tuple(Path(file) for file in ([files] if isinstance(files, str | Path) else files))


@dataclass(frozen=True)
class Profiles:
    """What the files tell of both engines.

    Attributes:
        files: The files.
        int8: The engine with every layer in INT8.
        floating: The float engine.
    """

    files: ProfileFiles
    int8: EngineReport
    floating: EngineReport

    @classmethod
    def read(cls, files: ProfileFiles) -> Profiles:
        """Read the files.

        Raises:
            ModelError: A file cannot be read.
            EngineError: A file tells nothing of layers, those of one engine tell no times, or are of several engines.
            ConfigError: They are of OpenVINO.
        """
        return cls(files, _read("int8_profile", files.int8), _read("float_profile", files.floating))

    @property
    def latency_ms(self) -> float:
        """Milliseconds of the engine in INT8, the sum of its layers."""
        return self.int8.ms or 0.0

    def check(self, layers: Mapping[str, str], size: tuple[int, int]) -> None:
        """Check that the two engines are of this model, take one image of its size, and are of both precisions.

        Args:
            layers: Names of nodes in the file, to the quantized layer that each is.
            size: Height and width of the images in pixels.

        Raises:
            EngineError: A profile names no layer or is of other images, or both are of the same precision.
        """
        int8, floating = f"'{self.files.int8[0]}'", f"'{self.files.floating[0]}'"
        for name, report in ((int8, self.int8), (floating, self.floating)):
            if not any(_owners(layer, layers) for layer in report.layers):
                raise EngineError(
                    f"{name} names no layer of the model, e.g. '{report.layers[0].name[:80]}'",
                    expected=f"the profile of an engine of this model, with layers such as '{next(iter(layers.values()))}'",
                    hint="profile the engine of this model's ONNX file, and name its layers.json with detailed verbosity too",
                )
            images = _images(report)
            if images is not None and (images[0], *images[2:]) != (1, *size):
                raise EngineError(
                    f"{name} is of images of the shape {'x'.join(map(str, images))}",
                    expected=f"one image of {size[0]}x{size[1]}, height x width, as in the search",
                    hint="profile engines of that size and of batch 1, or set `imgsz` to theirs",
                )
        ours, theirs = (_in_int8(report, layers) for report in (self.int8, self.floating))
        detailed = self.int8.detailed and self.floating.detailed
        if ours == theirs if detailed else _timed(self.int8) == _timed(self.floating):
            raise EngineError(
                f"{int8} and {floating} are of one engine: no layer differs in precision",
                expected="one of the engine in INT8, one of the float engine",
                hint="profile both",
            )
        if theirs:
            raise EngineError(
                f"{floating} runs {counted(len(theirs), 'layer')} in INT8, e.g. '{min(theirs)}'",
                expected="the profile of the float engine as `float_profile`",
                hint="change the two about, or build the engine of the float file in FP16",
            )


def _read(name: str, paths: Sequence[Path]) -> EngineReport:
    report = read_reports(paths)
    if report.runtime != "tensorrt":
        raise ConfigError(
            f"{name} '{paths[0]}' is of {report.runtime}",
            expected="what trtexec wrote of an engine",
            hint="profile an engine with trtexec, as docs/tensorrt.md says",
        )
    if not report.ms:
        raise EngineError(
            f"{name} '{paths[0]}' tells no times",
            expected="the time of each layer",
            hint="name the profile that trtexec exports too, as docs/tensorrt.md says",
        )
    return report


def _images(report: EngineReport) -> tuple[int, ...] | None:
    """Return the shape of the images: the first tensor of up to four channels that no layer writes; None where none is told."""
    written = {tensor.name for layer in report.layers for tensor in layer.outputs}
    read = (tensor for layer in report.layers for tensor in layer.inputs if tensor.name not in written)
    shapes = (tensor.shape for tensor in read if len(tensor.shape) == 4)
    return next((shape for shape in shapes if 1 <= shape[1] <= _CHANNELS and min(shape) > 0), None)


def _timed(report: EngineReport) -> list[tuple[str, float | None]]:
    return [(layer.name, layer.ms) for layer in report.layers]


def _in_int8(report: EngineReport, layers: Mapping[str, str]) -> frozenset[str]:
    return frozenset(owner for layer in report.layers if runs_int8(layer) for owner in _owners(layer, layers))


def _owners(layer: Layer, layers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the layers of the model that an engine's layer computes."""
    if layer.kind != "compute":
        return ()
    return tuple(dict.fromkeys(owner for node in layer.nodes for owner in _owner(node, layers)))


def _owner(node: str, layers: Mapping[str, str]) -> Iterator[str]:
    """Yield the layer that a node is: by its name, or by the path in it, as other exporters name nodes."""
    for name in (node, module_path(node, LAYER_OPS)):
        for own in (name, _AGAIN.sub("", name)):
            if own in layers:
                yield layers[own]
                return


@dataclass(frozen=True)
class LayerTimes:
    """What an engine's layers take, told by the layers of the model.

    Attributes:
        ms: Milliseconds of each layer that the profile names.
        converted_ms: Of the conversions between INT8 and float whose size is told.
        converted: Millions of numbers in these.
    """

    ms: Mapping[str, float]
    converted_ms: float
    converted: float

    @classmethod
    def of(cls, report: EngineReport, layers: Mapping[str, str], macs: Mapping[str, int]) -> LayerTimes:
        """Divide the time of an engine among the layers of the model.

        What belongs to no layer (copies, pooling, Q and DQ) is time of the layer that runs next, but for activations that run by
        themselves, which belong to the last one, and for conversions between INT8 and float whose size is told, which are the
        price of borders. What runs after the last layer is left out.

        Args:
            report: The engine.
            layers: Names of nodes in the file, to the layer that each is.
            macs: Multiply-adds of each layer, by which those that run as one share its time.
        """
        found: dict[str, float] = {}
        last: tuple[str, ...] = ()
        before = converted_ms = converted = 0.0
        for layer in report.layers:
            ms, owners = layer.ms or 0.0, _owners(layer, layers)
            if _converts(layer) and layer.elements:
                converted_ms, converted = converted_ms + ms, converted + layer.elements / 1e6
                continue
            if last and not owners and _POINTWISE.search(f"{layer.name} {layer.type}"):
                _share(found, last, ms, macs)
                continue
            before += ms
            if owners:
                _share(found, owners, before, macs)
                last, before = owners, 0.0
        return cls(found, converted_ms, converted)


def _share(found: dict[str, float], owners: Sequence[str], ms: float, macs: Mapping[str, int]) -> None:
    weights = [max(macs.get(owner, 0), 1) for owner in owners]
    for owner, weight in zip(owners, weights, strict=True):
        found[owner] = found.get(owner, 0.0) + ms * weight / sum(weights)


def _converts(layer: Layer) -> bool:
    """Return whether a layer only converts between INT8 and float."""
    if layer.kind == "compute":
        return False
    sides = [set(types.split("+")) for types in (layer.precision_in, layer.precision_out)]
    quantized = [bool(side & INT8) for side in sides]
    return quantized[0] != quantized[1] and sides[quantized.index(False)] <= FLOATS


def profile_table(
    profiles: Profiles,
    layers: Sequence[str],
    nodes: Mapping[str, str],
    costs: Mapping[str, tuple[int, int]],
    made_of: Mapping[str, Any],
) -> LatencyTable:
    """Return the latency table of two engines' profiles.

    Args:
        profiles: Of both engines, checked.
        layers: Names of the quantized layers.
        nodes: Names of nodes in the file, to the quantized layer that each is.
        costs: Of every layer of the model, float ones too, its multiply-adds and the numbers that it reads and writes.
        made_of: What the table depends on.
    """
    known = {name: name for name in costs if name} | dict(nodes)
    macs = {name: cost[0] for name, cost in costs.items()}
    int8, floating = (LayerTimes.of(report, known, macs) for report in (profiles.int8, profiles.floating))
    int8_ms, _ = _completed(int8, layers, costs, INT8_TYPE, 1)
    float_ms, pace = _completed(floating, layers, costs, HALF, 2)
    converted = int8.converted + floating.converted
    border_ms = (
        (int8.converted_ms + floating.converted_ms) / converted
        if converted
        else pace * _least_ms((0, 1_000_000), INT8_TYPE, 1 + 2)
    )
    return LatencyTable(
        PROFILED,
        profiles.latency_ms,
        profiles.floating.ms or 0.0,
        int8_ms,
        float_ms,
        border_ms,
        made_of,
        None if converted else ROOFLINE,
        [name for name in layers if name not in int8.ms or name not in floating.ms],
    )


def _completed(
    times: LayerTimes, layers: Sequence[str], costs: Mapping[str, tuple[int, int]], precision: str, size: int
) -> tuple[dict[str, float], float]:
    """Return the milliseconds of every layer, and how many times its least time a layer of the profile takes.

    What the profile does not name is estimated at that pace.
    """
    least = {name: _least_ms(cost, precision, size) for name, cost in costs.items()}
    told = [name for name in layers if name in times.ms and name in least]
    expected = sum(least[name] for name in told)
    pace = sum(times.ms[name] for name in told) / expected if expected else 1.0
    return {name: times.ms.get(name, pace * least.get(name, 0.0)) for name in layers}, pace


def _least_ms(cost: tuple[int, int], precision: str, size: int) -> float:
    """Return the least time of a layer, or of a million numbers read in INT8 and written in FP16, in milliseconds."""
    macs, numbers = cost
    return roofline_ms(GPUS[DEFAULT_GPU], kind=Kind.CONVOLUTION, precision=precision, moved=numbers * size, macs=macs)
