"""What each target costs in noise and takes in time: one model, the same images, one interleaved run.

    python benchmarks/targets.py yolov8n.pt --data coco.yaml --imgsz 320

For no target and for each target the model is calibrated by mse, exported and built. Rows: the noise d of the class probabilities
against the float model, of the calibrated model in torch and of the engine, on validation images that need no labels; and the
layers of the engine that are split against overflow. Times are interleaved: the median of a call by the wall clock and by the
processor's, which neighbours hardly disturb, and its ratio to the float model in OpenVINO in the same round, with quartiles.
Without VNNI the rows `--vnni` are of engines that this processor cannot run accurately.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from yoloqat.config import CalibrationConfig, EvalConfig, ExportConfig, MethodSpec, QuantConfig
from yoloqat.config.target import TENSORRT
from yoloqat.datasets import calibration_images, load_dataset, spread
from yoloqat.detectors import TorchPredictor, load_detector, torch_device, torch_threads
from yoloqat.engines import OnnxPredictor, OpenVINOPredictor, cpu_saturates
from yoloqat.evaluation.reference import Reference
from yoloqat.pipeline.engine import BuildConfig, build_and_score
from yoloqat.pipeline.export import export_onnx
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.predictor import Predictor

ENGINES = (
    (None, "openvino"),
    ("openvino", "openvino"),
    ("onnxruntime", "onnxruntime"),
    ("openvino", "onnxruntime"),
    ("tensorrt", None),
)
"""Target and engine; the fourth is what affine activations would give ONNX Runtime.

Of a file for TensorRT the file itself is measured, in ONNX Runtime."""


WARMUP = 10
"""Rounds that are not counted."""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--images", type=int, default=64, help="to calibrate on, and to measure the noise on")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, torch_threads(args.threads):
        _measure(args, Run(Path(folder), torch_device("cpu"), args.threads, lambda *_: None))


def _measure(args: argparse.Namespace, run: Run) -> None:
    records = calibration_images(args.data, args.images, 0)
    config = EvalConfig(imgsz=args.imgsz, batch=1)
    images = spread(load_dataset(args.data).images, args.images)
    floating = load_detector(args.model)
    reference = Reference(TorchPredictor(floating), images, config, detections=False)
    export_onnx(floating, run.out / "float.onnx", ExportConfig(imgsz=args.imgsz))
    build_and_score(run.out / "float.onnx", run.out / "float", BuildConfig("openvino"), run=run)
    engines: dict[str, Predictor] = {
        "float, OpenVINO": OpenVINOPredictor(run.out / "float" / "model_openvino", threads=args.threads),
        "float, ONNX Runtime": OnnxPredictor(run.out / "float.onnx", threads=args.threads),
    }
    print(f"{args.model.name}, {args.imgsz} px, {args.images} images; sums of 8 bits saturate here: {cpu_saturates()}")
    print("| target | built for | d in torch | d of the engine | layers split |")
    print("|---|---|---|---|---|")
    for target, engine in ENGINES:
        quant = QuantConfig(target=target)
        calibration = CalibrationConfig(MethodSpec("mse"), images=args.images)
        ptq = Ptq(
            load_detector(args.model), records, quant=quant, calibration=calibration, imgsz=args.imgsz, batch=8, run=run
        )
        ptq.apply(calibration.method)
        in_torch = reference.compare(ptq.predictor).d.value
        onnx = run.out / f"{target}.onnx"
        export_onnx(ptq.detector, onnx, ExportConfig(imgsz=args.imgsz))
        for vnni in (False, True) if engine is not None else (False,):
            name = f"{target}, {engine or TENSORRT.name}{', --vnni' if vnni else ''}"
            split, predictor = "-", OnnxPredictor(onnx, threads=args.threads)
            if engine is not None:
                built = build_and_score(
                    onnx, run.out / name, BuildConfig(engine, vnni=vnni), run=run, records=lambda: records[:32]
                )
                split = str(len(built.to_dict().get("split_layers", ())))
                kind = OpenVINOPredictor if engine == "openvino" else OnnxPredictor
                predictor = engines[name] = kind(built.path, threads=args.threads)
            found = reference.compare(predictor).d
            noise = f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
            print(f"| {target} | {name.partition(', ')[2]} | {in_torch:.3f} | {noise} | {split} |", flush=True)
    _time(engines, args.imgsz, args.rounds)


def _time(engines: dict[str, Predictor], side: int, rounds: int) -> None:
    image = np.random.default_rng(0).random((1, 3, side, side), dtype=np.float32)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
    for turn in range(rounds + WARMUP):
        for name, engine in engines.items():
            wall, busy = time.perf_counter(), time.process_time()
            engine(image)
            if turn >= WARMUP:
                seconds[name].append((time.perf_counter() - wall, time.process_time() - busy))
    times = {name: np.array(values) for name, values in seconds.items()}
    base = times[next(iter(times))]
    print("| engine | wall ms | processor ms | processor, of the first |")
    print("|---|---|---|---|")
    for name, values in times.items():
        wall, busy = np.median(values, axis=0) * 1e3
        low, middle, high = np.percentile(values[:, 1] / base[:, 1], [25, 50, 75])
        print(f"| {name} | {wall:.1f} | {busy:.1f} | {middle:.2f} ({low:.2f} to {high:.2f}) |")


if __name__ == "__main__":
    main()
