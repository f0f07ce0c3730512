"""Time several models in one run, interleaved.

Models: .pt and .safetensors run in torch, .onnx in ONNX Runtime, OpenVINO directories (of yoloqat or Ultralytics) in
OpenVINO, .engine files in TensorRT. All take the same images, batch and thread count, in turn, on as many cores as
threads, so that heat and neighbours slow them alike. --mode throughput lets engines that can hold several requests in
flight; the latency is then that of one request among them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from yoloqat.cli import options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.terminal import table
from yoloqat.config import EvalConfig
from yoloqat.config.sizes import ImageSize, sides, size_text
from yoloqat.detectors import TorchPredictor
from yoloqat.engines import OpenVINOPredictor, bench
from yoloqat.engines.cores import pinned
from yoloqat.engines.latency import MODES
from yoloqat.engines.onnx_precision import weighted_ops
from yoloqat.engines.ort_build import KEY as TWIN_KEY
from yoloqat.engines.tensorrt import TensorRTPredictor
from yoloqat.errors import ConfigError
from yoloqat.evaluation.scoring import check_fit
from yoloqat.onnx_graph.file import load_onnx, properties
from yoloqat.pipeline.models import OpenModel, open_model
from yoloqat.pipeline.run import Run
from yoloqat.provenance import environment


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="what to time")
    options.add_imgsz(parser, "side of the square images, or their height and width (default: the models' own)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images per call (default: 1)")
    parser.add_argument(
        "--mode",
        default="latency",
        choices=list(MODES),
        help="one call at a time, or as many at once as the engine holds best (default: latency)",
    )
    parser.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="where OpenVINO keeps compiled models (default: nowhere)"
    )
    parser.add_argument("--rounds", type=int, default=50, metavar="N", help="timed calls of each model (default: 50)")
    parser.add_argument("--warmup", type=int, default=5, metavar="N", help="untimed calls of each first (default: 5)")


def _precision(path: Path, model: OpenModel) -> str:
    """Return what the model computes in, by the engine's own account where it gives one."""
    predictor = model.predictor
    if isinstance(predictor, TorchPredictor):
        return "fake quant" if predictor.quantized else "float32"
    if isinstance(predictor, OpenVINOPredictor):
        return predictor.precision.label
    if isinstance(predictor, TensorRTPredictor):
        layers = predictor.layers
        return layers.precision.label if layers.detailed else "not told"
    source = load_onnx(path)
    return "integer twin" if TWIN_KEY in properties(source) else weighted_ops(source).label


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
            hint=f"name the size to time them at, e.g. --imgsz {size}, or time them in two runs",
        )
    return size


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    repeated = next((path for path in args.models if args.models.count(path) > 1), None)
    if repeated is not None:
        raise ConfigError(f"model '{repeated}' is named twice", expected="different models", hint="name each once")
    with pinned(run.threads) as cores:
        models = {str(path): open_model(path, run, hint=args.mode, cache_dir=args.cache_dir) for path in args.models}
        imgsz = _common_size(models) if args.imgsz is None else args.imgsz
        config = EvalConfig(imgsz=imgsz, batch=args.batch)
        for model in models.values():  # fixed sizes are compared by `bench`, which names the model
            check_fit(replace(model.predictor.info, imgsz=None), config)
        channels = max(model.predictor.info.channels for model in models.values())
        images = np.random.default_rng(0).random((args.batch, channels, *sides(config.imgsz)), dtype=np.float32)
        predictors = {name: model.predictor for name, model in models.items()}
        items = bench(predictors, images, warmup=args.warmup, rounds=args.rounds, mode=args.mode, progress=run.progress)
    known = environment(device=str(run.device), threads=run.threads)
    machine = {"processor": known["processor"], "cores": cores, "device": known["device"], "threads": run.threads}
    on_device = "" if run.device.type == "cpu" else f", {run.device}"
    shown = table(
        f"{args.mode}, batch {args.batch}, {size_text(config.imgsz)} px, {args.rounds} rounds interleaved, "
        f"{run.threads} threads of {known['processor']}{on_device}",
        "model",
        "engine",
        "precision",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "images/s",
        "spread",
    )
    results = []
    for path, item in zip(args.models, items, strict=True):
        model = models[str(path)]
        precision = _precision(path, model)
        results.append(
            {
                "artifact": item.artifact,
                "engine": model.engine,
                "precision": precision,
                "batch": item.batch,
                "latency_ms": item.latency_ms,
                "images_per_second": item.images_per_second,
                "spread": item.spread,
                "requests": item.requests,
                "device": "cpu" if model.engine == "openvino" else str(run.device),
            }
        )
        latencies = [f"{item.latency_ms[name]:.1f}" for name in ("p50", "p95", "p99")]
        name = str(Path(*path.resolve().parts[-2:]))  # the whole path is in result.json
        rate, spread = f"{item.images_per_second:.1f}", f"{100 * item.spread:.0f} %"
        shown.add_row(name, model.engine, precision, *latencies, rate, spread)
    settings = {
        "imgsz": config.imgsz,
        "batch": args.batch,
        "rounds": args.rounds,
        "warmup": args.warmup,
        "mode": args.mode,
        "cache_dir": None if args.cache_dir is None else str(args.cache_dir),
    }
    inputs = {name: model.key for name, model in models.items()}
    return Outcome(settings, {"items": results, "machine": machine}, inputs, [shown])


COMMAND = Command("bench", __doc__ or "", _arguments, _run)
