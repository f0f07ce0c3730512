"""Time several models in one run, interleaved.

Models: .pt and .safetensors run in torch, .onnx in ONNX Runtime, OpenVINO directories in OpenVINO. All take the same
images, batch and thread count, in turn, so that heat and neighbours slow them alike.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.terminal import table
from yoloqat.config import EvalConfig
from yoloqat.engines import OpenVINOPredictor, bench
from yoloqat.engines.onnx_file import load_onnx, quantized_layers
from yoloqat.errors import ConfigError
from yoloqat.evaluation.scoring import check_fit
from yoloqat.pipeline.models import OpenModel, open_model
from yoloqat.pipeline.run import Run


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="what to time")
    parser.add_argument("--imgsz", type=int, metavar="N", help="side of the images (default: the models' own)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images per call (default: 1)")
    parser.add_argument("--rounds", type=int, default=50, metavar="N", help="timed calls of each model (default: 50)")
    parser.add_argument("--warmup", type=int, default=5, metavar="N", help="untimed calls of each first (default: 5)")


def _precision(path: Path, model: OpenModel) -> str:
    """Return what the model computes in, by the engine's own account where it gives one."""
    if path.suffix == ".safetensors":
        return "fake quant"
    predictor = model.predictor
    if isinstance(predictor, OpenVINOPredictor):
        found = predictor.precision
        return (
            f"int8 {len(found.int8_convolutions)}/{len(found.convolutions)}" if found.int8_convolutions else "float32"
        )
    return "QDQ" if path.suffix == ".onnx" and quantized_layers(load_onnx(path)) else "float32"


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    repeated = next((path for path in args.models if args.models.count(path) > 1), None)
    if repeated is not None:
        raise ConfigError(f"model '{repeated}' is named twice", expected="different models", mend="name each once")
    models = {str(path): open_model(path, run) for path in args.models}
    sizes = {model.imgsz for model in models.values()}
    imgsz = max(sizes) if args.imgsz is None else args.imgsz
    config = EvalConfig(imgsz=imgsz, batch=args.batch)
    for model in models.values():  # fixed sizes are compared by `bench`, which names the model
        check_fit(replace(model.predictor.info, imgsz=None), config)
    images = np.random.default_rng(0).random((args.batch, 3, imgsz, imgsz), dtype=np.float32)
    predictors = {name: model.predictor for name, model in models.items()}
    items = bench(predictors, images, warmup=args.warmup, rounds=args.rounds, progress=run.progress)
    shown = table(
        f"batch {args.batch}, {imgsz} px, {run.threads} threads, {args.rounds} rounds interleaved",
        "model",
        "engine",
        "precision",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "images/s",
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
            }
        )
        latencies = [f"{item.latency_ms[name]:.1f}" for name in ("p50", "p95", "p99")]
        name = str(Path(*path.resolve().parts[-2:]))  # the whole path is in result.json
        shown.add_row(name, model.engine, precision, *latencies, f"{item.images_per_second:.1f}")
    settings = {"imgsz": imgsz, "batch": args.batch, "rounds": args.rounds, "warmup": args.warmup}
    return Outcome(settings, {"items": results}, {name: model.key for name, model in models.items()}, [shown])


COMMAND = Command("bench", __doc__ or "", _arguments, _run)
