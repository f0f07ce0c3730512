"""Run every command on every family of detectors, and write the support table of docs/families.md from what came out.

    python scripts/support_table.py --out runs/support            # all families that are at hand
    python scripts/support_table.py --only yolo11n,yolo26n        # some of them; the others keep their rows
    python scripts/support_table.py --render                      # no run: the page's table from docs/support.json

Ultralytics families are built from their own YAML with seeded weights at the smallest size, which proves the way, not the
accuracy. Weights with COCO's classes, official ones first of all, are named with --weights. A cell holds what the command of
its column ended with; the record of a run is docs/support.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from yoloqat.cli import main
from yoloqat.detectors import load_detector
from yoloqat.detectors.ultralytics import build
from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.provenance import environment, write_json

ROOT = Path(__file__).resolve().parents[1]
RECORD, PAGE = ROOT / "docs" / "support.json", ROOT / "docs" / "families.md"
BEGIN, END = "<!-- support table: begin -->", "<!-- support table: end -->"
FAMILIES = {
    "yolov3-tinyu": ("v3/yolov3-tiny", "detect"),
    "yolov5nu": ("v5/yolov5", "detect"),
    "yolov6n": ("v6/yolov6", "detect"),
    "yolov8n": ("v8/yolov8", "detect"),
    "yolov8n-seg": ("v8/yolov8-seg", "segment"),
    "yolov8n-pose": ("v8/yolov8-pose", "pose"),
    "yolov8n-obb": ("v8/yolov8-obb", "obb"),
    "yolov9t": ("v9/yolov9t", "detect"),
    "yolov10n": ("v10/yolov10n", "detect"),
    "yolo11n": ("11/yolo11", "detect"),
    "yolo11n-seg": ("11/yolo11-seg", "segment"),
    "yolo11n-pose": ("11/yolo11-pose", "pose"),
    "yolo11n-obb": ("11/yolo11-obb", "obb"),
    "yolo12n": ("12/yolo12", "detect"),
    "yolo26n": ("26/yolo26", "detect"),
    "yolo26n-seg": ("26/yolo26-seg", "segment"),
    "yolo26n-pose": ("26/yolo26-pose", "pose"),
    "yolo26n-obb": ("26/yolo26-obb", "obb"),
}
"""Name in the table to the YAML inside Ultralytics' models, and the task."""
COLUMNS = ("load", "PTQ", "sensitivity", "QAT", "QDQ export", "OpenVINO INT8", "TensorRT")
IMAGES = 4
"""Images to calibrate, train and score on: enough to run every step."""


def seeded_checkpoint(family: str, path: Path, *, classes: dict[int, str], width: float | None = None) -> Path:
    """Write a family's smallest model with seeded weights as Ultralytics saves what it trained.

    Args:
        family: A key of :data:`FAMILIES`.
        path: The ``.pt`` to write.
        classes: Class index to class name.
        width: Multiplies the channels instead of the family's own factor.
    """
    relative, task = FAMILIES[family]
    models = Path(str(ultralytics_module("cfg").__file__)).parent / "models"
    description: dict[str, Any] = yaml.safe_load((models / f"{relative}.yaml").read_text(encoding="utf-8"))
    description |= {"scale": "n", "nc": len(classes)}
    if width is not None and "scales" in description:
        depth, _, channels = description["scales"]["n"]
        description["scales"] = {"n": [depth, width, channels]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build({"task": task, "yaml": description, "channels": 3, "classes": len(classes)})
        norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
        for norm in norms:  # statistics of some input, so that activations have the size of a trained model's
            norm.momentum = None
        with torch.inference_mode():
            module.train()
            module(torch.rand(4, 3, 128, 128))
            module.eval()
    values: Any = module
    values.names, values.task, values.args = dict(classes), task, {"imgsz": 128}
    torch.save({"model": module.half(), "ema": None, "train_args": {"imgsz": 128}, "epoch": -1}, path)
    return path


def outlined_data(folder: Path, source: Path) -> Path:
    """Write a data set of a few images of ``source`` whose objects have outlines, which are those of their boxes."""
    content = yaml.safe_load(source.read_text(encoding="utf-8"))
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for image in sorted((source.parent / "images" / split).iterdir())[:IMAGES]:
            (folder / "images" / split / image.name).write_bytes(image.read_bytes())
            lines = []
            for line in (source.parent / "labels" / split / f"{image.stem}.txt").read_text().splitlines():
                index, x, y, width, height = (float(word) for word in line.split())
                left, right, top, bottom = x - width / 2, x + width / 2, y - height / 2, y + height / 2
                lines.append(f"{index:.0f} {left} {top} {right} {top} {right} {bottom} {left} {bottom}\n")
            (folder / "labels" / split / f"{image.stem}.txt").write_text("".join(lines))
    path = folder / "outlined.yaml"
    path.write_text(yaml.safe_dump({"train": "images/train", "val": "images/val", "names": content["names"]}))
    return path


def small_data(folder: Path, source: Path, names: dict[int, str] | None = None) -> Path:
    """Write a data set YAML with a few images of ``source``, whose labels stay where they are, and its names or others."""
    content = yaml.safe_load(source.read_text(encoding="utf-8"))
    root = source.parent.resolve()
    for split in ("train", "val"):
        listed = root / str(content[split])
        files = sorted(listed.iterdir()) if listed.is_dir() else [root / line for line in listed.read_text().split()]
        (folder / f"{split}.txt").write_text("\n".join(str(file) for file in files[:IMAGES]) + "\n")
    path = folder / "data.yaml"
    listed_names = content["names"] if names is None else names
    path.write_text(yaml.safe_dump({"train": "train.txt", "val": "val.txt", "names": listed_names}))
    return path


def _command(line: Sequence[str], out: Path) -> tuple[dict[str, Any] | None, str]:
    """Run a command and return its results, or None and the line it failed with."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        code = main([*line, "--overwrite", "--out", str(out)])
    if code != 0:
        return None, (errors.getvalue().strip().splitlines() or [f"exit code {code}"])[-1]
    return json.loads((out / "result.json").read_text())["results"], ""


def family_way(
    model: Path, data: Path, out: Path, *, imgsz: int, columns: Sequence[str] = COLUMNS
) -> dict[str, dict[str, Any]]:
    """Run every command on one model.

    Args:
        model: A float ``.pt``.
        data: A data set YAML whose names are the model's.
        out: Where the commands write.
        imgsz: Side of the images in pixels.
        columns: Whose commands to run, the first columns or all.

    Returns:
        Column to ``{"ok": bool, "text": str}``; a column whose command could not run says why.
    """
    size, common = ["--imgsz", str(imgsz)], ["--data", str(data), "--threads", "1"]
    few = ["--calib-images", str(IMAGES)]
    checkpoint, onnx = out / "calibrate" / "model.safetensors", out / "export" / "model.onnx"
    blocks = ["--granularity", "block", "--batch", "2"]
    steps: dict[str, tuple[list[str], Callable[[dict[str, Any]], str]]] = {
        "load": (["inspect", str(model), *size], lambda found: f"{found['parameters'] / 1e6:.1f} M"),
        "PTQ": (
            ["calibrate", str(model), *size, *common, *few, "--no-eval"],
            lambda found: f"{found['quantized_layers']} layers",
        ),
        "sensitivity": (
            ["sensitivity", str(checkpoint), *size, *common, *blocks],
            lambda found: f"{len(found['items'])} blocks",
        ),
        "QAT": (
            ["finetune", str(checkpoint), *size, *common, "--epochs", "1", "--batch", "2"],
            lambda found: f"{len(found['epochs'])} epoch",
        ),
        "QDQ export": (
            ["export", str(checkpoint), *size, *common],
            lambda found: (
                f"{found['quantized_convolutions']} of {found['convolutions']}, {found['node_max_steps']} step"
            ),
        ),
        "OpenVINO INT8": (
            ["build", str(onnx), "--threads", "1"],
            lambda found: f"{100 * found['int8_mac_share']:.0f} % int8",
        ),
    }
    cells: dict[str, dict[str, Any]] = {}
    for column, (line, text) in steps.items():
        if column not in columns:
            continue
        if "PTQ" in cells and not cells["PTQ"]["ok"]:
            cells[column] = {"ok": False, "text": "no checkpoint"}
            continue
        found, error = _command(line, out / line[0])
        way = ""
        # what Ultralytics' trainer does not take, or not with boxes alone, is distilled layer by layer
        if found is None and ("--supervise" in error or "Segment dataset" in error):
            found, error = _command([*line, "--supervise", "1"], out / line[0])
            way = ", distilled"
        cells[column] = {"ok": found is not None, "text": error if found is None else text(found) + way}
        if column == "QDQ export" and found is not None:
            lint = found["lint"]
            cells[column] |= {"lint": lint, "ok": lint["errors"] == 0}
    if "TensorRT" in columns:
        cells["TensorRT"] = {"ok": cells["QDQ export"]["ok"], "text": "API-checked"}
    return cells


def render(record: dict[str, Any]) -> str:
    """Return the table in Markdown."""
    lines = [f"| family | {' | '.join(COLUMNS)} |", f"|---{'|---' * len(COLUMNS)}|"]
    for family, row in record["families"].items():
        cells = [row["cells"][column] for column in COLUMNS]
        shown = [cell["text"] if cell["ok"] else f"no: {cell['text'].replace('|', '/')}" for cell in cells]
        lines.append(f"| {family.partition(',')[0]} ({row['weights']}) | {' | '.join(shown)} |")
    return "\n".join(lines)


def write_page(record: dict[str, Any]) -> None:
    """Put the table between its two marks in the page."""
    text = PAGE.read_text(encoding="utf-8")
    if BEGIN not in text:
        raise SystemExit(f"{PAGE} has no line '{BEGIN}' to put the table behind")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{render(record)}\n{END}{after}", encoding="utf-8")


def run(argv: Sequence[str] | None = None) -> int:
    """Run the families, write the record and the page's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="families to run, separated by commas")
    parser.add_argument(
        "--weights", action="append", default=[], type=Path, help="weights with COCO's classes to run too"
    )
    parser.add_argument("--weights-kind", default="official", metavar="TEXT", help="what stands beside their names")
    parser.add_argument("--coco", type=Path, help="data set YAML for --weights")
    parser.add_argument("--out", type=Path, default=Path("runs/support"))
    parser.add_argument("--render", action="store_true", help="only render the recorded run")
    args = parser.parse_args(argv)
    record = json.loads(RECORD.read_text()) if RECORD.is_file() else {"families": {}}
    if not args.render:
        demo = ROOT / "data" / "demo.yaml"
        classes = yaml.safe_load(demo.read_text())["names"]
        chosen = args.only.split(",") if args.only is not None else list(FAMILIES)
        for family in filter(None, chosen):
            out = args.out / family
            out.mkdir(parents=True, exist_ok=True)
            model = seeded_checkpoint(family, out / f"{family}.pt", classes=classes)
            write = outlined_data if FAMILIES[family][1] == "segment" else small_data
            _record(record, family, family_way(model, write(out, demo), out, imgsz=128), "seeded")
        for weights in args.weights:
            family = f"{weights.stem}, {args.weights_kind}" if weights.stem in FAMILIES else weights.stem
            out = args.out / family.replace(", ", "-")
            out.mkdir(parents=True, exist_ok=True)
            data = small_data(out, args.coco, load_detector(weights).info.names)  # untrained models have made-up names
            _record(record, family, family_way(weights, data, out, imgsz=320), args.weights_kind)
    write_page(record)
    print(render(record))
    return 0


def _record(record: dict[str, Any], family: str, cells: dict[str, Any], weights: str) -> None:
    known = environment(device="cpu", threads=1)
    versions = {name: known["packages"].get(name) for name in ("torch", "ultralytics", "onnxruntime", "openvino")}
    record["families"][family] = {
        "weights": weights,
        "task": FAMILIES.get(family.partition(",")[0], ("", "detect"))[1],
        "cells": cells,
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions,
    }
    order = [name for name in FAMILIES if name in record["families"]]
    order += [name for name in record["families"] if name not in FAMILIES]
    record["families"] = {name: record["families"][name] for name in order}
    write_json(RECORD, record)


if __name__ == "__main__":
    sys.exit(run())
