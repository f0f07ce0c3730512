"""From a trained .pt to a measured INT8 engine in one line: calibrate, export, build, compare the speed.

    python scripts/build_engine.py yolov8n.pt --data coco.yaml --method mse --out runs/engine

Results, each with its result.json: OUT/calibrate/model.safetensors, OUT/export/model.onnx, OUT/build/model_openvino/,
OUT/bench. The float model is exported and built too (OUT/float), so that the times are of the same runtime. With
--engine tensorrt on a machine with the GPU the engine is OUT/build/model.engine, with FP16 where nothing is quantized, and the
float engine to compare with is FP16; without TensorRT the ONNX file to build
from is left as OUT/build/model.onnx, and the line to type is told.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yoloqat.cli import main

FILES = {"openvino": "model_openvino", "tensorrt": "model.engine"}


def run(argv: list[str]) -> int:
    """Take every step; return the exit code of the first one that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Ultralytics .pt")
    parser.add_argument("--data", required=True, help="data set YAML of Ultralytics")
    parser.add_argument("--imgsz", type=int, default=640, help="side of the square letterbox (default: %(default)s)")
    parser.add_argument("--method", default="mse", help="calibration method (default: %(default)s)")
    parser.add_argument("--ignore", action="append", default=[], help="leave layers float, as for `yoloqat calibrate`")
    parser.add_argument("--calib-images", default="64", help="images to calibrate on (default: %(default)s)")
    parser.add_argument("--engine", default="openvino", choices=sorted(FILES), help="runtime (default: %(default)s)")
    parser.add_argument("--device", help="cpu or a CUDA index (default: cpu)")
    parser.add_argument("--threads", help="threads inside an operator (default: all cores)")
    parser.add_argument("--out", type=Path, default=Path("runs/engine"), help="where results go (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace results of other settings that are there")
    args = parser.parse_args(argv)
    out: Path = args.out
    size = ["--imgsz", str(args.imgsz)]
    data = ["--data", args.data]
    machine = ["--threads", args.threads] if args.threads else []
    machine += ["--device", args.device] if args.device else []
    machine += ["--overwrite"] if args.overwrite else []
    runtime, file = ["--engine", args.engine], FILES[args.engine]
    target = ["--target", args.engine] if args.engine == "tensorrt" else []  # FP16 where nothing is quantized
    ignore = [part for pattern in args.ignore for part in ("--ignore", pattern)]
    calibration = ["--method", args.method, "--calib-images", args.calib_images, *ignore, "--no-eval"]
    engine, floating = out / "build" / file, out / "float_build" / file
    quantized = out / "export" / "model.onnx"
    steps = (
        ["calibrate", args.model, *data, *size, *calibration, *target, "--out", str(out / "calibrate")],
        ["export", str(out / "calibrate" / "model.safetensors"), *size, "--out", str(out / "export")],
        ["build", str(quantized), *runtime, "--float", args.model, *data, *size, "--out", str(out / "build")],
        ["export", args.model, *size, *target, "--out", str(out / "float_export")],
        ["build", str(out / "float_export" / "model.onnx"), *runtime, "--out", str(out / "float_build")],
        [
            "bench",
            args.model,
            str(out / "float_export" / "model.onnx"),
            str(floating),
            str(engine),
            *size,
            "--out",
            str(out / "bench"),
        ],
    )
    return next((code for code in (main([*step, *machine]) for step in steps) if code), 0)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
