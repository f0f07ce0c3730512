"""An export with its lint and, where there is a data set, the proof that the file computes what the detector does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yoloqat.config import EvalConfig, ExportConfig
from yoloqat.config.sizes import sides, size_text
from yoloqat.config.target import DEFAULT_ENGINE, TARGETS
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.detectors import Detector
from yoloqat.errors import warn
from yoloqat.pipeline.export import check_parity_images, export_config, export_onnx, lint_export, verify_export
from yoloqat.pipeline.models import check_scoring
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.tables import noise, noise_label
from yoloqat.results import Result, Table, counted, interval, number, signed

MAX_STEPS, MAX_FLIP_SHARE = 1, 0.001
MAX_FLIP_SHARE_HALF = 0.05
"""With FP16, whose 11 digits put a value of integer 100 up to a twentieth of a step elsewhere."""


@dataclass(frozen=True, eq=False, repr=False)
class ExportResult(Result):
    """What was exported and how it compares.

    Attributes:
        path: The file.
        failed: Why the file is not what was promised; None where lint and comparison pass.
    """

    path: Path
    failed: str | None


def export_and_check(
    detector: Detector,
    path: Path,
    config: ExportConfig,
    *,
    run: Run,
    dataset: DetectionDataset | None = None,
    scoring: EvalConfig | None = None,
    compared: Sequence[ImageRecord] = (),
) -> ExportResult:
    """Write a detector as ONNX, lint the file, and compare it with the detector where there are images.

    Args:
        detector: Calibrated, or float.
        path: The file to write.
        config: Image size, batch, opset, FP16, suppression and target.
        run: Where finished parts are kept.
        dataset: The validation images; None scores nothing. Of a float model nothing is compared, with a warning.
        scoring: How to score; None takes the defaults at the file's image size.
        compared: Images to measure the file's noise to the detector on; without a data set its nodes are compared on them too.

    Returns:
        The results of ``yoloqat export``.

    Raises:
        ConfigError: A setting does not fit the detector or the data set.
        ExportError: The detector cannot be written as QDQ.
        OutputError: The file cannot be written.
    """
    config = export_config(detector, config)
    scoring = scoring or EvalConfig(imgsz=config.imgsz, batch=config.batch)
    check_scoring(replace(detector.info, imgsz=sides(config.imgsz)), dataset, scoring)
    images = compared if dataset is None else dataset.images
    if dataset is not None or compared:
        check_parity_images(len(images), config.batch)
    report = export_onnx(detector, path, config)
    lint = lint_export(path)
    results = {
        "quantized_convolutions": report.quantized_convolutions,
        "convolutions": report.convolutions,
        "shared_quantizers": report.aliases,
        **lint,
    }
    errors, warnings = lint["lint"]["errors"], lint["lint"]["warnings"]
    rows = [
        ("quantized convolutions", f"{report.quantized_convolutions} of {report.convolutions}"),
        ("lint", f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"),
    ]
    affine = detector.quantization is not None and not detector.quantization.config.activations.symmetric
    failed = lint_failure(lint, path, affine=affine)
    if affine:
        rows.append(("TensorRT", f"takes no zero-points: build for {TARGETS[config.target or DEFAULT_ENGINE].title}"))
    if images and detector.quantization is None:
        warn(
            f"'{detector.source.path}' is a float model: its export is not compared on the images, which is done for QDQ"
        )
        rows.append(("comparison with the model", "none, it is float"))
    elif images:
        with _in_fp32(detector, config) as fp32:
            found = verify_export(
                detector, path, dataset, scoring, run=run, batch=config.batch, compared=compared, fp32=fp32
            )
        results |= found
        rows += _node_rows(found["fp32"], ", in FP32") if "fp32" in found else []
        rows += [
            *_node_rows(found, ", in FP16" if config.half else ""),
            (noise_label(found, "to QFloat"), noise(found, "d_onnx")),
        ]
        rows += _score_rows(found) if dataset is not None else []
        failed = failed or _disagreement(found.get("fp32", found), MAX_FLIP_SHARE)
        failed = failed or (_disagreement(found, MAX_FLIP_SHARE_HALF) if config.half else None)
    title = f"{path}, opset {config.opset}, batch {config.batch}, {size_text(config.imgsz)} px"
    return ExportResult(results, (Table(title, ("check", "value"), tuple(rows)),), path, failed)


def lint_failure(lint: Mapping[str, Any], path: Path, *, affine: bool) -> str | None:
    """Return why the lint does not pass a file; None where it does.

    Args:
        lint: From :func:`yoloqat.pipeline.export.lint_export`.
        path: The file.
        affine: Whether it has zero-points: the lint reads for TensorRT, which such a file is not for.
    """
    errors = lint["lint"]["errors"]
    found = f"lint found {counted(errors, 'error')} in '{path}'; see 'lint_findings' in result.json"
    return found if errors and not affine else None


@contextmanager
def _in_fp32(detector: Detector, config: ExportConfig) -> Iterator[Path | None]:
    """Give the same file with FP32 where nothing is quantized, while it is compared; None where that is the file itself."""
    if not config.half:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="yoloqat-") as folder:
        path = Path(folder) / "fp32.onnx"
        export_onnx(detector, path, replace(config, half=False))
        yield path


def _node_rows(found: dict[str, Any], kind: str) -> list[tuple[str, str]]:
    return [
        (f"largest node-by-node difference{kind}, steps", f"{found['node_max_steps']}"),
        (f"integers that differ node by node{kind}", f"{100 * found['node_flip_share']:.4f} %"),
    ]


def _disagreement(found: dict[str, Any], share: float) -> str | None:
    """Return how far integers differ, where that is too far."""
    if found["node_max_steps"] <= MAX_STEPS and found["node_flip_share_worst"] <= share:
        return None
    return (
        f"integers differ by up to {found['node_max_steps']} steps and on "
        f"{100 * found['node_flip_share_worst']:.3f} % of a tensor; expected at most {MAX_STEPS} step and "
        f"{100 * share} %; see 'nodes' in result.json"
    )


def _score_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    counts = " and ".join(str(count) for count in found["thread_counts"])
    gap = f"{signed(found['map_difference'])} {interval(found['map_difference_ci95'])}"
    return [
        ("mAP50-95 QFloat", number(found["map_qfloat"])),
        ("mAP50-95 ONNX Runtime", number(found["map_onnx"])),
        ("difference, 95 % interval", gap),
        (f"thread noise (threads {counts})", number(found["thread_noise"])),
    ]
