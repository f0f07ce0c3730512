"""yoloqat's fine-tuning beside Ultralytics' own `train(quantize=8)`: same model, data, epochs, rate and augmentation, one run.

    pip install "nvidia-modelopt>=0.44" huggingface_hub
    python benchmarks/ultralytics_qat.py yolov8n.pt --data coco.yaml --imgsz 320 --epochs 3 --lr0 2e-5

`train(quantize=8)` needs NVIDIA ModelOpt, which asks for much: give it an environment of its own, with yoloqat in it. Both train
8 bits with AdamW under the same schedule, and theirs gets yoloqat's arguments of the trainer (`--train` adds to them). Both are
exported by their own exporter, and the two QDQ ONNX files of the last epoch, which nothing was chosen by, are scored by ONNX
Runtime with the same evaluator on the same images, beside the float model and what yoloqat started from. Drops are float minus
each, with paired intervals, and so is theirs minus yoloqat's. Seconds are of the processor, everything included that the command
does: yoloqat scores every epoch by COCO mAP, theirs validates at the end.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from subset import first_images

from yoloqat.cli import main as yoloqat
from yoloqat.config import EvalConfig
from yoloqat.datasets import load_dataset
from yoloqat.detectors import TorchPredictor, load_detector, torch_threads
from yoloqat.detectors.ultralytics_import import environment_kept, quiet, ultralytics_module
from yoloqat.engines import OnnxPredictor
from yoloqat.evaluation import evaluate, paired_difference
from yoloqat.evaluation.drops import drop_results
from yoloqat.finetuning.training_data import training_file
from yoloqat.finetuning.ultralytics import DEFAULTS, parse_arguments
from yoloqat.provenance import environment, write_json


def ultralytics_qat(args: argparse.Namespace, names: dict[int, str], folder: Path) -> Path:
    """Fine-tune with `train(quantize=8)` and return the ONNX file of the last epoch."""
    link = folder / "weights.pt"  # a name for which Ultralytics looks nothing up
    link.symlink_to(args.weights.resolve())
    data = folder / "data"
    data.mkdir()
    arguments = DEFAULTS | parse_arguments(tuple(args.train))
    with environment_kept(), quiet():
        yolo = ultralytics_module("models.yolo.model").YOLO
        yolo(str(link)).train(
            data=str(training_file(args.data, data, names)),
            epochs=args.epochs,
            imgsz=args.imgsz,
            batch=args.batch,
            nbs=args.batch,
            optimizer="AdamW",
            lr0=args.lr0,
            quantize=8,
            amp=False,
            val=False,
            device="cpu",
            seed=args.seed,
            project=str(folder),
            name="theirs",
            **arguments,
        )
        last = yolo(str(folder / "theirs" / "weights" / "last.pt"))
        return Path(last.export(format="onnx", imgsz=args.imgsz, quantize=8, device="cpu"))


def yoloqat_qat(args: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """Calibrate, fine-tune and export with yoloqat; return the ONNX files of the start and of the last epoch."""

    def run(*command: object) -> None:
        typed = [str(part) for part in command]
        if yoloqat([*typed, "--threads", str(args.threads)]) != 0:
            raise SystemExit(f"yoloqat {' '.join(typed)} failed")

    start = folder / "start"
    size, data = ("--imgsz", args.imgsz), ("--data", args.data)
    run("calibrate", args.weights, *data, *size, "--method", args.method, "--no-eval", "--out", start)
    run("export", start / "model.safetensors", *size, "--out", folder / "start_onnx")
    train = [part for argument in args.train for part in ("--train", argument)]
    run(
        *("finetune", start / "model.safetensors", *data, *size, *train),
        *(
            "--epochs",
            args.epochs,
            "--batch",
            args.batch,
            "--lr0",
            args.lr0,
            "--seed",
            args.seed,
            "--out",
            folder / "ours",
        ),
    )
    run("export", folder / "ours" / "last.safetensors", *size, "--out", folder / "last_onnx")
    return folder / "start_onnx" / "model.onnx", folder / "last_onnx" / "model.onnx"


def compare(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train both and score what they export."""
    detector = load_detector(args.weights)
    busy = time.process_time()
    start, ours = yoloqat_qat(args, folder)
    seconds = {"yoloqat": time.process_time() - busy}
    busy = time.process_time()
    theirs = ultralytics_qat(args, detector.info.names, folder)
    seconds["train(quantize=8)"] = time.process_time() - busy
    dataset = first_images(load_dataset(args.data), args.images)
    config = EvalConfig(imgsz=args.imgsz, batch=1)
    reference = evaluate(TorchPredictor(detector), dataset, config)
    files = {"yoloqat, calibrated": start, "yoloqat": ours, "train(quantize=8)": theirs}
    found = {name: evaluate(OnnxPredictor(path, threads=args.threads), dataset, config) for name, path in files.items()}
    rows: dict[str, Any] = {}
    for name, evaluation in found.items():
        drop = paired_difference(reference.matches, evaluation.matches)
        beside = paired_difference(evaluation.matches, found["yoloqat"].matches)
        rows[name] = {
            "map50_95": evaluation.metrics.map50_95,
            **drop_results(drop),
            **drop_results(beside, "this_minus_yoloqat"),
            "processor_seconds": seconds.get(name),
        }
        print(f"{name:20s} {json.dumps(rows[name])}", flush=True)
    return {"map_float": reference.metrics.map50_95, "images": reference.metrics.images, "models": rows}


def main() -> None:
    """Measure and print one row per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the float .pt")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--images", type=int, help="score the first N images (default: all)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr0", type=float, default=1e-4)
    parser.add_argument("--method", default="mse", help="yoloqat's calibration (default: %(default)s)")
    parser.add_argument("--train", action="append", default=[], metavar="KEY=VALUE", help="for both trainers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, torch_threads(args.threads):
        results = compare(args, Path(name))
    if args.out is not None:
        provenance = environment(device="cpu", threads=args.threads)
        write_json(
            args.out, {"provenance": provenance, "config": {k: str(v) for k, v in vars(args).items()}, **results}
        )


if __name__ == "__main__":
    main()
