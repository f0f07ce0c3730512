"""Try on a GPU what only a GPU can tell: engines of TensorRT, and the CUDA paths of yoloqat.

Exports the model in FP16 and in INT8 with several placements of Q/DQ, builds each, scores each, times all engines in one run,
interleaved, and tries calibration, the noise budget and 50 steps of fine-tuning on CUDA, on two GPUs also over NCCL. Every step
runs by itself: one that fails is recorded, with the line that repeats it, and the rest goes on. Exit code 1 where a step
failed, as those that build do without TensorRT (the same line runs the failed steps alone again); 2 where there is no GPU and
no --device cpu, which tries the rest.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from yoloqat.cli.command import LightCommand, Outcome
from yoloqat.deploy import gpu_kit
from yoloqat.deploy.gpu_kit import kit_results, kit_steps, kit_tables, run_kit
from yoloqat.errors import ConfigError
from yoloqat.progress import Progress


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="trained model, a .pt")
    parser.add_argument("--data", type=Path, metavar="YAML", help="data set YAML of Ultralytics, with labels")
    parser.add_argument("--imgsz", type=int, default=640, metavar="N", help="size of the images (default: 640)")
    parser.add_argument(
        "--calib-images", type=int, default=64, metavar="N", help="images to calibrate on (default: 64)"
    )
    parser.add_argument(
        "--gpus", type=int, default=1, metavar="N", help="GPUs there are; from 2 on NCCL is tried (default: 1)"
    )


def _run(args: argparse.Namespace, out: Path, progress: Progress) -> Outcome:
    if args.data is None:
        raise ConfigError(f"`data` is {args.data}", expected="a data set YAML with labels", hint="name it with `data`")
    device = "0" if args.device == "auto" else args.device
    if device != "cpu" and not gpu_kit.gpu_count():
        raise ConfigError(
            f"device is '{args.device}' and torch sees no GPU here",
            expected="a GPU, which is what the kit tries",
            hint="run it where `nvidia-smi` shows one, or name cpu as `device` to try what needs none",
        )
    data = ["--data", str(args.data), "--imgsz", str(args.imgsz)]
    found = run_kit(
        kit_steps(
            args.model,
            data,
            out,
            calibration=args.calib_images,
            gpus=args.gpus,
            device=device,
            training=_training_images(args.data),
        ),
        out,
        progress=progress,
    )
    results = kit_results(found)
    failed = (
        f"{results['failed']} of {len(found)} steps failed; expected none; see 'steps'" if results["failed"] else None
    )
    absent = importlib.util.find_spec("tensorrt") is None
    if failed and absent:
        failed += "; TensorRT is not installed, so that no engine was built: pip install 'yoloqat[tensorrt]'"
    inputs = {"model": {"path": str(args.model)}}
    settings = {"gpus": args.gpus, "imgsz": args.imgsz, "calib_images": args.calib_images, "data": str(args.data)}
    names = [result.name for result in found]
    return Outcome(
        settings, results, inputs, kit_tables(found), [name for name in names if (out / name).is_dir()], failed=failed
    )


def _training_images(data: Path) -> int:
    from yoloqat.datasets.dataset_yaml import read_dataset_file  # these take their time, which `--help` does not need
    from yoloqat.datasets.splits import split_images

    spec = read_dataset_file(data)
    return len(split_images(spec.train, spec.root, "train")) if spec.train else 0


_STEPS = [step.name for step in kit_steps(Path(), [], Path(), gpus=2)]
COMMAND = LightCommand("gpu-kit", __doc__ or "", _arguments, _run, files=[*_STEPS, gpu_kit.KEPT_STEPS])
