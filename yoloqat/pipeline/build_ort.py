"""The equivalent graph of an ONNX file for ONNX Runtime's integer kernels, its ranges measured on calibration images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from yoloqat.datasets import ImageRecord, plan_batches, read_batches
from yoloqat.engines import OrtBuild, build_onnxruntime
from yoloqat.pipeline.models import onnx_info
from yoloqat.pipeline.run import Run
from yoloqat.predictor import Images


def measured_build(
    onnx_path: Path, out_path: Path, records: Sequence[ImageRecord], *, run: Run, vnni: bool = False
) -> OrtBuild:
    """Write the equivalent graph of a QDQ ONNX file.

    Args:
        onnx_path: The file; where its size is open, images of 640 pixels are taken.
        out_path: The file to write.
        records: The calibration images; of a fixed batch the last, smaller one is left out.
        run: Threads, and who watches.
        vnni: The file is for processors with VNNI alone, so that activations take all 256 integers.

    Raises:
        ModelError: The file cannot be read, or quantizes nothing.
        CalibrationError: There are fewer images than one batch.
        DataError: An image does not decode.
        EngineError: ONNX Runtime cannot load the file.
        OutputError: The file cannot be written.
    """
    info = onnx_info(onnx_path)
    batch, imgsz = info.batch or 1, info.imgsz or 640
    usable = records[: len(records) // batch * batch]

    def images() -> Iterator[Images]:
        done = 0
        with closing(read_batches(plan_batches(usable, imgsz, batch, channels=info.channels))) as batches:
            for found in batches:
                yield found.images
                done += len(found.records)
                run.progress("measure ranges", done, len(usable))

    return build_onnxruntime(onnx_path, out_path, images(), threads=run.threads, highest=255 if vnni else 127)


def measured_results(build: OrtBuild) -> dict[str, Any]:
    """Return the result keys of such a file: those of every engine, its operators and the ranges that were measured."""
    return build.precision.results() | {
        "operators": dict(sorted(build.operators.items())),
        "measured_ranges": {name: list(span) for name, span in build.measured.items()},
    }
