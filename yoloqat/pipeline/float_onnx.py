"""A float ONNX file on its way to engines: each a QDQ file with the ranges of one pass over the calibration images."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from yoloqat.config import EvalConfig, MethodSpec
from yoloqat.config.sizes import ImageSize, checked_imgsz
from yoloqat.datasets import ImageRecord
from yoloqat.engines import OnnxPredictor
from yoloqat.errors import ConfigError
from yoloqat.export.qdq import save_onnx
from yoloqat.onnx_quant.placement import place
from yoloqat.pipeline.compare import MethodRow, compared_results
from yoloqat.pipeline.export import lint_export
from yoloqat.pipeline.export_check import lint_failure
from yoloqat.pipeline.float_model import ONNX, Settings
from yoloqat.pipeline.onnx_calibrate import CollectedFile, collect_file
from yoloqat.pipeline.onnx_files import FLOAT, open_float_file, save_quantized
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.shards import ModelFile
from yoloqat.pipeline.tuning import Tuning
from yoloqat.provenance import file_sha256


class FloatOnnx:
    """A float ONNX detector.

    Args:
        path: The file.
        out: Takes ``float.onnx``, the form in which every command reads it.
        imgsz: The image size, needed where the file has none.
        names: Names of the classes, where the file has none.
        target: The engine that will run it.
        outputs: Tensors or nodes at which the heads end; found where none are named.

    Raises:
        ConfigError: It has no image size and ``imgsz`` is None.
        ModelError: It cannot be read, is quantized, or its output is none that can be decoded.
    """

    files = (ONNX,)
    family = "onnx"

    def __init__(
        self,
        path: Path,
        out: Path,
        *,
        imgsz: ImageSize | None = None,
        names: Mapping[int, str] | None = None,
        target: str | None = None,
        outputs: Sequence[str] = (),
    ) -> None:
        self._file = open_float_file(path, imgsz=imgsz, names=names, target=target)
        info = self._file.info
        self.imgsz = checked_imgsz(info.imgsz, low=1) if info.imgsz else EvalConfig.imgsz
        self._outputs, self.path = tuple(outputs), out / FLOAT
        self.source = {"path": str(path), "sha256": file_sha256(path)}
        self.key = [self.source["sha256"], *self._outputs]
        self.lacks = f"they need the .pt, and '{path.name}' is an ONNX file"
        self.notes = self._file.notes
        self._collected: CollectedFile | None = None

    def check(self, settings: Settings, run: Run) -> tuple[str, ...]:  # noqa: ARG002 - as of every model
        """Check that the settings fit, and write ``float.onnx``; return the names of the layers that are quantized.

        Raises:
            ConfigError: A setting needs the ``.pt``, or the patterns leave no layer to quantize.
            PatternError: A pattern or an output names nothing.
            OutputError: The file cannot be written.
        """
        layers = place(self._file.model, settings.quant, self._outputs).layers
        self.path.parent.mkdir(parents=True, exist_ok=True)
        save_onnx(self._file.model, self.path)
        return layers

    def predictor(self, run: Run) -> OnnxPredictor:
        """Return what runs it."""
        return OnnxPredictor(self.path, threads=run.threads)

    def compare(
        self, settings: Settings, methods: Sequence[MethodSpec], images: Sequence[ImageRecord], run: Run
    ) -> dict[str, Any]:
        """Compare calibration methods by their noise."""
        floating, start = ModelFile(self.path.absolute(), run.threads), time.perf_counter()
        collected = self._once(settings, run)
        seconds = time.perf_counter() - start
        reference = run.reference(self.predictor(run), images, replace(settings.scoring, rect=False), file=floating)
        rows = []
        for method in dict.fromkeys(methods):
            start = time.perf_counter()
            quantized = collected.quantized(method)
            took = time.perf_counter() - start
            key = {"onnx": self.key, "method": str(method)}
            path = run.part_path(run.key(qfloat=key), ONNX)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_onnx(quantized.graph(self.path, file_sha256(self.path))[0], path)
            predictor = OnnxPredictor(path, threads=run.threads)
            file = ModelFile(path.absolute(), run.threads)
            found = run.fidelity(reference, predictor, label=str(method), model_key=key, file=file)
            rows.append(MethodRow(method, found, None, took, {}))
        layers = len(collected.placement.layers)
        return compared_results(rows, None, reference, seconds, run=run) | {"quantized_layers": layers}

    def make(
        self, settings: Settings, float_layers: Sequence[str], folder: Path, run: Run, tuning: Tuning | None
    ) -> dict[str, Any]:
        """Quantize it and write its QDQ file."""
        if tuning is not None:
            raise TypeError(f"'{self.path}' cannot be fine-tuned")
        quantized = self._once(settings, run).quantized(settings.calibration.method, float_layers)
        path = folder / ONNX
        report = save_quantized(quantized, path, self.path)
        lint = lint_export(path)
        affine = not settings.quant.activations.symmetric
        return {
            "quantized_layers": len(quantized.placement.layers),
            "export": {
                "quantized_convolutions": report.quantized_convolutions,
                "convolutions": report.convolutions,
                "shared_quantizers": report.aliases,
                **lint,
            },
            "export_failed": lint_failure(lint, path, affine=affine),
        }

    def export(self, path: Path, imgsz: ImageSize) -> None:  # noqa: ARG002 - the file has a size
        """Write it as a float ONNX file."""
        save_onnx(self._file.model, path)

    def _once(self, settings: Settings, run: Run) -> CollectedFile:
        """Return what the one pass over the calibration images found."""
        if self._collected is None:
            self._collected = collect_file(
                self._file,
                settings.records,
                settings.scoring,
                quant=settings.quant,
                calibration=settings.calibration,
                run=run,
                outputs=self._outputs,
            )
        return self._collected


def check_without_torch(path: Path, **settings: tuple[Any, tuple[Any, ...]]) -> None:
    """Check that nothing is asked of an ONNX file that needs the torch model.

    Args:
        path: The file.
        settings: By name, what is asked and what it may be.

    Raises:
        ConfigError: Something is.
    """
    for name, (value, allowed) in settings.items():
        if value not in allowed:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            raise ConfigError(
                f"{name} is '{shown}' with '{path}'",
                expected="it with a torch model only",
                hint=f"leave `{name}` out, or pass the .pt",
            )
