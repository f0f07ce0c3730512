"""An ONNX file to an engine of any runtime, with the map of what runs in INT8 and, where there is a data set, its mAP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yoloqat.config import EvalConfig
from yoloqat.config.checks import check_bool, check_choice, check_fraction, check_int
from yoloqat.config.target import check_vnni
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.engines import OnnxPredictor, OpenVINOPredictor, build_openvino
from yoloqat.engines.dispatch import cuda_index
from yoloqat.engines.openvino import SPLIT_ABOVE, guard
from yoloqat.engines.saturation import cpu_saturates
from yoloqat.engines.tensorrt import TensorRTOptions, TensorRTPredictor, engine_results, load_cuda, load_tensorrt
from yoloqat.errors import ConfigError, warn, with_options
from yoloqat.pipeline.build import build_results, engine_noise, float_source, open_float, score_engine
from yoloqat.pipeline.build_ort import measured_build, measured_results
from yoloqat.pipeline.build_target import checked_engine
from yoloqat.pipeline.build_tensorrt import build_engine_file
from yoloqat.pipeline.fidelity import check_alike
from yoloqat.pipeline.models import check_scoring, onnx_info
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.tables import noise, noise_label
from yoloqat.predictor import Predictor
from yoloqat.results import Result, Table, counted, interval, number, signed

OPENVINO, ORT_MODEL, ENGINE = "model_openvino", "model_ort.onnx", "model.engine"
ENGINES = ("openvino", "onnxruntime", "tensorrt")


@dataclass(frozen=True)
class BuildConfig:
    """How an engine is built.

    Attributes:
        engine: The runtime, one of :data:`ENGINES`; None takes the file's target, and OpenVINO where it names none.
        split_above: Of OpenVINO: split a convolution in two where more than this share of its pairs of products can overflow
            on processors without VNNI; 0 makes every sum exact.
        tensorrt: Of TensorRT: options of its builder.
        calibration_images: Of ONNX Runtime: on how many images the ranges that the file does not tell are measured.
        half: Of TensorRT: FP16 for what a QDQ file leaves in FP32; images and outputs stay FP32.
        vnni: The engine will run on processors with VNNI alone, whose sums do not saturate: OpenVINO splits nothing and keeps no
            integers small, and ONNX Runtime's activations take all 256 integers instead of 128.

    Raises:
        ConfigError: There is no such runtime, or a value is out of range.
    """

    engine: str | None = None
    split_above: float = SPLIT_ABOVE
    tensorrt: TensorRTOptions = field(default_factory=TensorRTOptions)
    calibration_images: int = 32
    half: bool = True
    vnni: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        if self.engine is not None:
            check_choice("engine", self.engine, ENGINES)
        check_fraction("split_above", self.split_above)
        check_bool("vnni", self.vnni)
        check_bool("half", self.half)
        check_int("calibration_images", self.calibration_images, 1)


@dataclass(frozen=True, eq=False, repr=False)
class BuildResult(Result):
    """An engine that was built.

    Attributes:
        path: Its file or directory.
        engine: The runtime that it is for.
        advice: What another calibration or build would give, with parameters in backticks; None where nothing is to be said.
        lines: Command lines that build the same elsewhere.
        floating: The float model that it came from; None where it is not at hand.
    """

    path: Path
    engine: str
    advice: str | None
    lines: tuple[str, ...]
    floating: Path | None


@dataclass(frozen=True)
class _Work:
    """What a builder gets: the ONNX file, where the engine goes, settings, images to measure ranges on, whether it is scored."""

    onnx: Path
    out: Path
    config: BuildConfig
    records: Callable[[], Sequence[ImageRecord]]
    scored: bool
    run: Run


@dataclass(frozen=True)
class _Built:
    """What a builder gives; no predictor where nothing is scored and loading needs more than building."""

    name: str
    predictor: Predictor | None
    results: dict[str, Any]
    rows: Sequence[tuple[str, str]]
    lines: Sequence[str] = ()
    advice: str | None = None


def _openvino(work: _Work) -> _Built:
    path, threads, vnni = work.out / OPENVINO, work.run.threads, work.config.vnni
    built = build_openvino(work.onnx, path, threads=threads, **guard(vnni=vnni, split_above=work.config.split_above))
    results, rows = build_results(built), []
    if built.saturates and results["quantized_convolutions"] and not vnni:
        rows.append(("this processor's 8-bit sums saturate", "guarded against"))
    if built.split:
        rows.append(("layers split in two against overflow", str(len(built.split))))
    advice = None
    if built.split and not built.saturates:
        advice = (
            f"{counted(len(built.split), 'layer')} split in two against saturating sums, which this processor does not "
            "have: for processors with VNNI alone build with `vnni`, which is faster"
        )
    return _Built(OPENVINO, OpenVINOPredictor(path, threads=threads), results, rows, advice=advice)


def _onnxruntime(work: _Work) -> _Built:
    records = work.records()
    built = measured_build(work.onnx, work.out / ORT_MODEL, records, run=work.run, vnni=work.config.vnni)
    rows = [("ranges measured", f"{len(built.measured)} on {counted(len(records), 'image')}")]
    return _Built(
        ORT_MODEL, OnnxPredictor(work.out / ORT_MODEL, threads=work.run.threads), measured_results(built), rows
    )


def _load_both() -> Any:
    """Import TensorRT and what its runtime needs too, so that a missing package is named before the build."""
    load_cuda()
    return load_tensorrt()


def _tensorrt(work: _Work) -> _Built:
    path, load = work.out / ENGINE, _load_both if work.scored else load_tensorrt
    built = build_engine_file(work.onnx, path, work.config.tensorrt, run=work.run, load=load, half=work.config.half)
    rows = [("reformats added", str(len(built.layers.reformats))), ("TensorRT", built.version)]
    rows += [("shapes", f"{built.profile.low} to {built.profile.high}")] if built.profile.dynamic else []
    lines = [f"{line}  (the same plan by TensorRT {major})" for major, line in built.trtexec.items()]
    predictor = TensorRTPredictor(path, device=cuda_index(str(work.run.device))) if work.scored else None
    return _Built(ENGINE, predictor, engine_results(built), rows, lines)


_BUILDERS = {"openvino": _openvino, "onnxruntime": _onnxruntime, "tensorrt": _tensorrt}


def unnamed_images() -> Sequence[ImageRecord]:
    """Stand where no images to measure ranges on were named.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(
        "engine is 'onnxruntime' and no images to measure ranges on are named",
        expected="calibration images: the file does not tell the ranges between its quantized layers",
        hint="name a data set with a training split, or a directory of images",
    )


def build_and_score(
    onnx: Path,
    out: Path,
    config: BuildConfig,
    *,
    run: Run,
    dataset: DetectionDataset | None = None,
    scoring: EvalConfig | None = None,
    floating: Path | None = None,
    records: Callable[[], Sequence[ImageRecord]] = unnamed_images,
    compared: Sequence[ImageRecord] = (),
) -> BuildResult:
    """Build an engine from an ONNX file, and measure it beside the float model where there are images.

    Args:
        onnx: A QDQ file, or a float one to compare with.
        out: The directory that takes the engine: ``model_openvino/``, ``model_ort.onnx`` or ``model.engine``.
        config: The runtime and its settings.
        run: Threads, device, where finished parts are kept.
        dataset: The validation images; None scores nothing.
        scoring: How to score; None takes the defaults at the file's image size.
        floating: The float model to compare with; None takes the one that the file names as its source, if it is there.
        records: Gives the images on which ONNX Runtime's ranges are measured.
        compared: Images to measure the engine's noise on; none measures none.

    Returns:
        The results of ``yoloqat build``.

    Raises:
        ConfigError: A setting does not fit the file, or the runtime cannot take a file for another target.
        DependencyError: The runtime is not installed.
        EngineError: It cannot build or run the model.
        ModelError: A file cannot be read, or the float model is quantized or of other classes.
        OutputError: The engine cannot be written.
    """
    info = onnx_info(onnx)
    scoring = scoring or EvalConfig(imgsz=info.imgsz or EvalConfig.imgsz)
    if dataset is not None:
        check_scoring(info, dataset, scoring)
    engine, advice = checked_engine(onnx, config.engine)
    check_vnni(config.vnni, engine)
    if config.vnni and cpu_saturates():
        warn(
            "vnni is True and this processor's 8-bit sums saturate: the engine is for others, and is not accurate here"
        )
    floating = float_source(onnx, floating)
    reference = None if floating is None or not compared else open_float(floating, run)
    if reference is not None and reference.info.end2end == info.end2end:
        check_alike(reference.info, info, (str(floating), str(onnx)))  # before the engine is built
    scored = dataset is not None or bool(compared)
    built = _BUILDERS[engine](_Work(onnx, out, config, records, scored, run))
    advice = "; ".join(filter(None, (advice, built.advice))) or None
    path, results = (
        out / built.name,
        dict(built.results) | {"engine": engine, "advice": advice and with_options(advice, lambda _: None)},
    )
    share = results["int8_mac_share"]
    rows = [
        ("convolutions in INT8", f"{results['int8_convolutions']} of {results['convolutions']}"),
        ("quantized convolutions", str(results["quantized_convolutions"])),
        ("quantized multiply-adds in INT8", "-" if share is None else f"{100 * share:.1f} %"),
        *built.rows,
    ]
    qfloat = onnx if results["quantized_convolutions"] else None
    if compared and built.predictor is not None:
        results |= engine_noise(built.predictor, reference, compared, scoring, run=run, qfloat=qfloat)
        rows += [
            (noise_label(results, "to float"), noise(results)),
            (noise_label(results, "to QFloat"), noise(results, "qfloat_d")),
            ("boxes to float, 1 - IoU", noise(results, "box_disagreement")),
            ("boxes to QFloat, 1 - IoU", noise(results, "qfloat_box_disagreement")),
        ]
    if dataset is not None and built.predictor is not None:
        source = path if engine == "onnxruntime" else onnx  # such an engine's numbers depend on its calibration
        guard = "vnni" if config.vnni else str(config.split_above)
        key = f"{engine}, {guard}" if engine == "openvino" else engine
        found = score_engine(built.predictor, source, floating, dataset, scoring, run=run, engine=key, qfloat=qfloat)
        results |= found
        rows += _score_rows(found)
    table = Table(str(path), ("what", "value"), tuple(rows), "\n".join(results.get("warnings", ())))
    return BuildResult(results, (table,), path, engine, advice, tuple(built.lines), floating)


def _score_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("mAP50-95 engine", number(found["map_engine"]))]
    if found["drop"] is not None:
        rows.append(("mAP50-95 float", number(found["map_float"])))
        rows.append(("drop, 95 % interval", f"{signed(found['drop'])} {interval(found['drop_ci95'])}"))
    if found["qfloat_difference"] is not None:
        rows.append(("mAP50-95 QFloat (the file, as written)", number(found["map_qfloat"])))
        gap = f"{signed(found['qfloat_difference'])} {interval(found['qfloat_difference_ci95'])}"
        rows.append(("QFloat minus engine, 95 % interval", gap))
    return rows
