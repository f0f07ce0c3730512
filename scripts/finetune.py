"""From a trained .pt to a fine-tuned INT8 checkpoint in one line: calibrate, fine-tune (QAT), export.

    python scripts/finetune.py yolov8n.pt --data coco.yaml --epochs 10 --out runs/qat

Results, each with its result.json: OUT/calibrate/model.safetensors, OUT/finetune/best.safetensors, OUT/export/model.onnx.
Arguments that are not named here go to `yoloqat finetune`, e.g. --lr0 1e-4 or --learn-amax.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from yoloqat.cli import main


def run(argv: list[str]) -> int:
    """Take every step; return the exit code of the first one that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Ultralytics .pt")
    parser.add_argument("--data", required=True, help="data set YAML of Ultralytics, with a training split")
    parser.add_argument("--imgsz", default="640", help="side of the square letterbox (default: %(default)s)")
    parser.add_argument("--method", default="mse", help="calibration method (default: %(default)s)")
    parser.add_argument("--calib-images", default="64", help="images to calibrate on (default: %(default)s)")
    parser.add_argument(
        "--bits", default="8", help="bits of weights and activations; only 8 bits are exported (default: %(default)s)"
    )
    parser.add_argument("--ignore", action="append", default=[], help="leave layers float, as for `yoloqat calibrate`")
    parser.add_argument("--threads", help="threads inside an operator (default: all cores)")
    parser.add_argument("--out", type=Path, default=Path("runs/qat"), help="where results go (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace results of other settings that are there")
    args, training = parser.parse_known_args(argv)
    out: Path = args.out
    shared = ["--data", args.data, "--imgsz", args.imgsz, *(["--threads", args.threads] if args.threads else [])]
    shared += ["--overwrite"] if args.overwrite else []
    ignore = [part for pattern in args.ignore for part in ("--ignore", pattern)]
    calibration = [
        "--method",
        args.method,
        "--calib-images",
        args.calib_images,
        "--bits",
        args.bits,
        *ignore,
        "--no-eval",
    ]
    calibrated, best = out / "calibrate" / "model.safetensors", out / "finetune" / "best.safetensors"
    steps = [
        ["calibrate", args.model, *shared, *calibration, "--out", str(out / "calibrate")],
        ["finetune", str(calibrated), *shared, *training, "--out", str(out / "finetune")],
    ]
    if args.bits == "8":
        steps.append(["export", str(best), *shared, "--out", str(out / "export")])
    return next((code for code in map(main, steps) if code), 0)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
