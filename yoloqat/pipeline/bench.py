"""Several models timed in one run, interleaved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from yoloqat.config import EvalConfig
from yoloqat.config.sizes import ImageSize, sides, size_text
from yoloqat.detectors import Detector, TorchPredictor
from yoloqat.engines import OpenVINOPredictor, bench
from yoloqat.engines.cores import pinned
from yoloqat.engines.latency import Mode
from yoloqat.engines.onnx_precision import weighted_ops
from yoloqat.engines.ort_build import KEY as ORT_KEY
from yoloqat.engines.tensorrt import TensorRTPredictor
from yoloqat.errors import ConfigError
from yoloqat.evaluation.scoring import check_fit
from yoloqat.onnx_graph.file import load_onnx, properties
from yoloqat.pipeline.models import OpenModel, open_model
from yoloqat.pipeline.run import Run
from yoloqat.provenance import environment
from yoloqat.results import Result, Table, counted


@dataclass(frozen=True)
class BenchConfig:
    """How models are timed.

    Attributes:
        imgsz: Size of the images; None takes the models' own.
        batch: Images per call.
        mode: ``"latency"``: one call at a time; ``"throughput"``: as many at once as an engine holds best.
        rounds: Timed calls of each model.
        warmup: Untimed calls of each first.
        cache_dir: Where OpenVINO keeps compiled models; None for nowhere.
    """

    imgsz: ImageSize | None = None
    batch: int = 1
    mode: Mode = "latency"
    rounds: int = 50
    warmup: int = 5
    cache_dir: Path | None = None


@dataclass(frozen=True, eq=False, repr=False)
class BenchResult(Result):
    """Latencies, with what was timed.

    Attributes:
        imgsz: Size of the images that every model got.
        inputs: What identifies each model.
    """

    imgsz: ImageSize
    inputs: dict[str, Any]


def bench_models(models: Sequence[Path | Detector], config: BenchConfig, *, run: Run) -> BenchResult:
    """Time models in turn on the same images.

    Args:
        models: Detectors, or the files of any models; at least one.
        config: Sizes, counts, mode.
        run: Device, threads, who watches.

    Returns:
        The results of ``yoloqat bench``; the speed-up is over the first model.

    Raises:
        ConfigError: There is no model, a file is named twice, or two models differ in image size or batch.
        ModelError: A file cannot be loaded.
    """
    if not models:
        raise ConfigError(f"models to time are {len(models)}", expected="at least one", hint="name a model")
    names = _names(models)
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ConfigError(f"model '{repeated}' is named twice", expected="different models", hint="name each once")
    with pinned(run.threads) as cores:
        opened = {
            name: open_model(model, run, hint=config.mode, cache_dir=config.cache_dir)
            for name, model in zip(names, models, strict=True)
        }
        imgsz = _common_size(opened) if config.imgsz is None else config.imgsz
        scoring = EvalConfig(imgsz=imgsz, batch=config.batch)
        for model in opened.values():  # fixed sizes are compared by `bench`, which names the model
            check_fit(replace(model.predictor.info, imgsz=None), scoring)
        channels = max(model.predictor.info.channels for model in opened.values())
        images = np.random.default_rng(0).random((config.batch, channels, *sides(scoring.imgsz)), dtype=np.float32)
        predictors = {name: model.predictor for name, model in opened.items()}
        timed = bench(
            predictors,
            images,
            warmup=config.warmup,
            rounds=config.rounds,
            mode=config.mode,
            progress=run.progress,
        )
    known = environment(device=str(run.device), threads=run.threads)
    machine = {"processor": known["processor"], "cores": cores, "device": known["device"], "threads": run.threads}
    items = []
    for model, item in zip(opened.values(), timed, strict=True):
        items.append(
            {
                "artifact": item.artifact,
                "engine": model.engine,
                "precision": precision_of(item.artifact, model),
                "batch": item.batch,
                "latency_ms": item.latency_ms,
                "images_per_second": item.images_per_second,
                "speedup": timed[0].latency_ms["p50"] / item.latency_ms["p50"],
                "spread": item.spread,
                "requests": item.requests,
                "device": "cpu" if model.engine == "openvino" else str(run.device),
            }
        )
    results = {"items": items, "machine": machine}
    on_device = "" if run.device.type == "cpu" else f", {run.device}"
    title = (
        f"{config.mode}, batch {config.batch}, {size_text(scoring.imgsz)} px, {config.rounds} rounds interleaved, "
        f"{counted(run.threads, 'thread')} of {known['processor']}{on_device}"
    )
    return BenchResult(results, (_table(title, items),), scoring.imgsz, {name: m.key for name, m in opened.items()})


def _names(models: Sequence[Path | Detector]) -> list[str]:
    """Return a name for each model; detectors of one file, such as a float one and what it became, get different ones."""
    names: list[str] = []
    for model in models:
        name = str(model.source.path if isinstance(model, Detector) else model)
        if isinstance(model, Detector):
            name = name if model.quantization is None else f"{name} ({model.quantization.method})"
            number = sum(known == name or known.startswith(f"{name} #") for known in names)
            name = f"{name} #{number + 1}" if number else name
        names.append(name)
    return names


def _table(title: str, items: Sequence[dict[str, Any]]) -> Table:
    rows = []
    for item in items:
        latencies = [f"{item['latency_ms'][name]:.1f}" for name in ("p50", "p95", "p99")]
        rows.append(
            (
                str(Path(*Path(item["artifact"]).resolve().parts[-2:])),  # the whole path is in the results
                item["engine"],
                item["precision"],
                *latencies,
                f"{item['images_per_second']:.1f}",
                f"{item['speedup']:.2f} x",
                f"{100 * item['spread']:.0f} %",
            )
        )
    columns = ("model", "engine", "precision", "p50 ms", "p95 ms", "p99 ms", "images/s", "speed-up", "spread")
    return Table(title, columns, tuple(rows), left=(1, 2))


def precision_of(name: str, model: OpenModel) -> str:
    """Return what a model computes in, by the engine's own account where it gives one.

    Args:
        name: The model's file.
        model: The model, open.
    """
    path, predictor = Path(name), model.predictor
    if isinstance(predictor, TorchPredictor):
        return "fake quant" if predictor.quantized else "float32"
    if isinstance(predictor, OpenVINOPredictor):
        return predictor.precision.label
    if isinstance(predictor, TensorRTPredictor):
        layers = predictor.layers
        return layers.precision.label if layers.detailed else "not told"
    source = load_onnx(path)
    return "integer twin" if ORT_KEY in properties(source) else weighted_ops(source).label


def _common_size(models: Mapping[str, OpenModel]) -> ImageSize:
    """Return the size of the images: the one that a model is fixed to, or that the models were trained at.

    Raises:
        ConfigError: Nothing is fixed, and the models were trained at different sizes.
    """
    fixed = [model.imgsz for model in models.values() if model.predictor.info.imgsz is not None]
    trained = {name: model.imgsz for name, model in models.items() if model.engine == "torch"}
    if fixed or not trained:  # fixed sizes are compared by `bench`, which names the model
        return next(iter([*fixed, *(model.imgsz for model in models.values())]))
    (first, size), *others = trained.items()
    other = next((entry for entry in others if entry[1] != size), None)
    if other is not None:
        raise ConfigError(
            f"model '{first}' was trained at {size_text(size)} pixels, model '{other[0]}' at {size_text(other[1])}",
            expected="models of one image size",
            hint=f"set `imgsz` to the size to time them at, e.g. {size_text(size).replace(' x', '')}, or time them in two runs",
        )
    return size
