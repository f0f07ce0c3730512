"""Profiles of two TensorRT engines of a model, as `trtexec` wrote them: all in INT8, and float."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yoloqat.engines.reading import EngineReport, Layer, read_reports
from yoloqat.engines.reading.report import runs_int8
from yoloqat.errors import ConfigError, EngineError
from yoloqat.onnx_graph.names import module_path
from yoloqat.onnx_graph.operators import LAYER_OPS
from yoloqat.provenance import file_sha256
from yoloqat.results import counted

_CHANNELS = 4
_AGAIN = re.compile(r"_\d+$")


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
            if not any(owners_of(layer, layers) for layer in report.layers):
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
    return frozenset(owner for layer in report.layers if runs_int8(layer) for owner in owners_of(layer, layers))


def owners_of(layer: Layer, layers: Mapping[str, str]) -> tuple[str, ...]:
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
