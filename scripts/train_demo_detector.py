"""Train the demo detector: a YOLOv8 an eighth as wide as its YAML, from random weights, on rendered scenes only.

The committed training images and further ones, rendered with other seeds into a temporary directory, are what it
learns from. The checkpoint of the last epoch is kept, so that the validation images choose nothing:

    python scripts/train_demo_detector.py --data data --out weights/demo.pt
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from demo_objects import CLASSES
from make_demo_data import SEED, write_split

os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("WANDB_DISABLED", "true")

WIDTH = 0.125
DEPTH = 0.33
EXTRA_IMAGES = 1744
EPOCHS = 16
# Mosaics and random colours are left out: fresh scenes are cheaper and look like the validation scenes.
RECIPE: dict[str, Any] = {
    "imgsz": 320,
    "batch": 8,
    "nbs": 8,
    "optimizer": "AdamW",
    "lr0": 0.003,
    "lrf": 0.01,
    "weight_decay": 0.0005,
    "warmup_epochs": 1.0,
    "mosaic": 0.0,
    "hsv_h": 0.0,
    "hsv_s": 0.0,
    "hsv_v": 0.0,
    "translate": 0.1,
    "scale": 0.2,
    "fliplr": 0.5,
    "cos_lr": True,
    "amp": False,
    "val": False,
    "plots": False,
    "deterministic": True,
}


def architecture(ultralytics_yaml: dict[str, Any], *, width: float, depth: float) -> dict[str, Any]:
    """Return Ultralytics' description of a detector with its sizes replaced by one width and one depth.

    Args:
        ultralytics_yaml: The content of ``yolov8.yaml``.
        width: Multiplies every layer's channels.
        depth: Multiplies every block's repeats.
    """
    kept = {key: value for key, value in ultralytics_yaml.items() if key in ("backbone", "head")}
    return {"nc": len(CLASSES), "depth_multiple": depth, "width_multiple": width, **kept}


def collect(data: Path, scratch: Path, *, extra_images: int) -> Path:
    """Bring the committed images and further ones together in a scratch directory and return its data set YAML.

    The trainer leaves caches beside the labels and sorts images by path, so it works on a copy: the committed
    directory stays clean, and the order does not depend on where it lies.
    """
    from ultralytics.utils import YAML

    write_split(scratch, "extra", images=extra_images, seed=SEED)
    shutil.copytree(data, scratch / "shipped", ignore=shutil.ignore_patterns("*.cache"))
    names = {index: thing.name for index, thing in enumerate(CLASSES)}
    trained_on = [str(scratch / "images/extra"), str(scratch / "shipped/images/train")]
    target = scratch / "train.yaml"
    YAML.save(target, {"train": trained_on, "val": str(scratch / "shipped/images/val"), "names": names})
    return target


def publish(last: Path, out: Path) -> None:
    """Write the trained weights as a plain fp16 checkpoint without optimizer, training history or local paths."""
    import torch
    from ultralytics import __version__
    from ultralytics.nn.tasks import torch_safe_load

    checkpoint, _ = torch_safe_load(last, safe_only=True)
    model = checkpoint["ema"] if checkpoint.get("ema") is not None else checkpoint["model"]
    model = model.half().eval()
    model.criterion = None
    model.args = {"task": "detect", "imgsz": RECIPE["imgsz"], "model": "yolov8-demo.yaml", "data": "demo.yaml"}
    model.yaml["yaml_file"] = "yolov8-demo.yaml"
    for parameter in model.parameters():
        parameter.requires_grad = False
    out.parent.mkdir(parents=True, exist_ok=True)
    train_args = {**RECIPE, "task": "detect", "model": "yolov8-demo.yaml", "data": "demo.yaml"}
    torch.save(
        {
            "epoch": -1,
            "model": model,
            "ema": None,
            "optimizer": None,
            "train_args": train_args,
            "version": __version__,
            "license": "AGPL-3.0",
        },
        out,
    )


def train(data: Path, out: Path, *, extra_images: int, epochs: int, seed: int, workers: int) -> None:
    """Render, train and publish.

    Args:
        data: The demo data set's directory.
        out: The checkpoint to write.
        extra_images: Further training images, rendered now.
        epochs: Passes over all training images.
        seed: Seed of the weights and of the order of the images.
        workers: Processes that load images.
    """
    from ultralytics import YOLO
    from ultralytics.utils import ROOT, YAML

    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        data_yaml = collect(data, scratch, extra_images=extra_images)
        model_yaml = scratch / "yolov8-demo.yaml"
        description = YAML.load(ROOT / "cfg/models/v8/yolov8.yaml")
        YAML.save(model_yaml, architecture(description, width=WIDTH, depth=DEPTH))
        model = YOLO(model_yaml, task="detect")
        model.train(
            data=str(data_yaml),
            epochs=epochs,
            seed=seed,
            workers=workers,
            device="cpu",
            project=str(scratch / "runs"),
            name="demo",
            **RECIPE,
        )
        publish(scratch / "runs/demo/weights/last.pt", out)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description="Train the demo detector.")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the demo data set's directory")
    parser.add_argument("--out", type=Path, default=Path("weights/demo.pt"), help="the checkpoint to write")
    parser.add_argument("--extra", type=int, default=EXTRA_IMAGES, help="further training images to render")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the training images")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and image order")
    parser.add_argument("--workers", type=int, default=1, help="image loading processes")
    args = parser.parse_args()
    train(args.data, args.out, extra_images=args.extra, epochs=args.epochs, seed=args.seed, workers=args.workers)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
