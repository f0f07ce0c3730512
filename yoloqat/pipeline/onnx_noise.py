"""The noise budget of a QDQ file that was calibrated from a float ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yoloqat.config import EvalConfig
from yoloqat.config.checks import check_int
from yoloqat.config.sizes import size_text
from yoloqat.datasets import ImageRecord
from yoloqat.errors import ConfigError
from yoloqat.onnx_quant.noise import OnnxNoiseScan
from yoloqat.pipeline.noise_mode import measured_results
from yoloqat.pipeline.onnx_files import QuantizedFile
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.provenance import file_sha256
from yoloqat.sensitivity.settings import NOISE, ScanConfig


def check_onnx_scan(path: Path, scan: ScanConfig, map_top: int = 0) -> None:
    """Check that a scan can be made of an ONNX file: its noise alone, at 8 bits.

    Args:
        path: The file, named in errors.
        scan: What is asked for.
        map_top: For how many items mAP is asked for.

    Raises:
        ConfigError: It is another mode or other bits, or mAP is asked for.
    """
    for name, value, wanted in (("mode", scan.mode, NOISE), ("bits", scan.bits, None), ("map_top", map_top, 0)):
        if value != wanted:
            raise ConfigError(
                f"{name} is {value!r} with '{path}'",
                expected=f"the mode {NOISE} at 8 bits, which needs no torch model",
                hint=f"set `mode` to {NOISE}" if name == "mode" else f"leave `{name}` out",
            )


def run_onnx_budget(
    path: Path,
    quantized: QuantizedFile,
    images: Sequence[ImageRecord],
    config: EvalConfig,
    *,
    scan: ScanConfig,
    options: ScanOptions,
    run: Run,
) -> dict[str, Any]:
    """Measure the noise budget of a QDQ file; one of the same inputs that was interrupted goes on.

    Args:
        path: The QDQ file.
        quantized: What :func:`yoloqat.pipeline.onnx_files.read_quantized` read of it.
        images: What the noise is measured on; labels are not needed.
        config: Image size and batch.
        scan: The granularity.
        options: How to run it.
        run: Where the study lies, threads.

    Returns:
        The results of ``sensitivity --mode noise``, without histograms.

    Raises:
        ConfigError: The study in ``run.out`` was made of other inputs, or a setting does not fit.
        YoloqatError: As :class:`~yoloqat.onnx_quant.noise.OnnxNoiseScan`.
    """
    check_onnx_scan(path, scan)
    check_int("top", options.top, 1)
    noise = OnnxNoiseScan(
        quantized.floating.model,
        quantized.floating.info,
        quantized.placement,
        quantized.qparams,
        quant=quantized.quant,
        images=images,
        config=config,
        scan=scan,
        threads=run.threads,
    )
    title = f"{path.name}, {size_text(config.imgsz)} px"
    return measured_results(noise, file_sha256(path), config, title=title, scan=scan, options=options, run=run)
