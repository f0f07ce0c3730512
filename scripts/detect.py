"""Find objects in an image with a built model and draw their boxes; an example to take into your own program.

    python scripts/detect.py runs/build/model_openvino street.jpg --out street_boxes.png

An ONNX file needs `pip install numpy pillow onnxruntime`, a directory of OpenVINO `numpy pillow openvino pyyaml`; nothing of
yoloqat and no torch. A TensorRT engine is run by `yoloqat.engines`.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

GREY = (114, 114, 114)
PALETTE = ((230, 57, 70), (29, 122, 204), (42, 157, 80), (233, 134, 30), (131, 78, 190), (0, 150, 155))

Run = Callable[[np.ndarray], np.ndarray]


def load(path: Path, threads: int, cache: Path | None = None) -> tuple[Run, dict[int, str], tuple[int, int]]:
    """Return a function from (1, 3, height, width) to raw outputs, the class names, and the (height, width)."""
    if path.is_dir():
        return _load_openvino(path, threads, cache)
    if path.suffix == ".onnx":
        return _load_onnx(path, threads)
    from yoloqat.engines import open_engine

    engine = open_engine(path, threads=threads)
    return lambda images: engine(images)[0], engine.info.names, engine.info.imgsz or (640, 640)


def _load_onnx(path: Path, threads: int) -> tuple[Run, dict[int, str], tuple[int, int]]:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported; it reports sessions otherwise
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    here = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in here]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    feed = session.get_inputs()[0]
    names = ast.literal_eval(session.get_modelmeta().custom_metadata_map["names"])
    return lambda images: session.run(None, {feed.name: images})[0], names, _size(feed.shape)


def _load_openvino(path: Path, threads: int, cache: Path | None) -> tuple[Run, dict[int, str], tuple[int, int]]:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # its absence lets OpenVINO send nothing
    import openvino
    import yaml

    core = openvino.Core()
    # on processors with bfloat16 OpenVINO would compute all that is not INT8 in it, which moves boxes by a tenth of a pixel
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    if cache is not None:  # the second start is faster
        settings["CACHE_DIR"] = str(cache)
    model = core.compile_model(core.read_model(next(path.glob("*.xml"))), "CPU", settings)
    names = yaml.safe_load((path / "metadata.yaml").read_text(encoding="utf-8"))["names"]
    return lambda images: model([images])[0], names, _size(list(model.input(0).get_shape()))


def _size(shape: list[Any]) -> tuple[int, int]:
    height, width = shape[2:]
    return (height, width) if isinstance(height, int) and isinstance(width, int) else (640, 640)


def letterbox(image: Image.Image, size: tuple[int, int]) -> tuple[np.ndarray, float, tuple[int, int]]:
    """Return the image as (1, 3, height, width) in [0, 1], centred on grey, its scale, and its (left, top) there."""
    height, width = size
    scale = min(height / image.height, width / image.width)
    fitted = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    corner = ((width - fitted.width) // 2, (height - fitted.height) // 2)
    canvas = Image.new("RGB", (width, height), GREY)
    canvas.paste(fitted, corner)
    pixels = np.asarray(canvas, dtype=np.float32).transpose(2, 0, 1)[None] / np.float32(255)
    return np.ascontiguousarray(pixels), scale, corner


def detections(raw: np.ndarray, classes: int, conf: float = 0.25, iou: float = 0.7) -> np.ndarray:
    """Turn raw outputs (1, 4 + classes + extra, anchors) into rows of x1, y1, x2, y2, score, class by falling score."""
    rows = raw[0].T
    labels = rows[:, 4 : 4 + classes].argmax(1)
    scores = rows[np.arange(len(rows)), 4 + labels]
    order = np.flatnonzero(scores > conf)
    order = order[np.argsort(-scores[order], kind="stable")]
    centre, half = rows[order, :2], rows[order, 2:4] / 2
    found = np.column_stack((centre - half, centre + half, scores[order], labels[order]))
    kept: list[int] = []
    for index in range(len(found)):
        if all(found[index, 5] != found[k, 5] or overlap(found[index], found[k]) <= iou for k in kept):
            kept.append(index)
    return found[kept]


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the intersection over union of two boxes x1, y1, x2, y2."""
    corners = np.maximum(first[:2], second[:2]), np.minimum(first[2:4], second[2:4])
    inner = float(np.prod(np.clip(corners[1] - corners[0], 0, None)))
    areas = [float(np.prod(box[2:4] - box[:2])) for box in (first, second)]
    return inner / (sum(areas) - inner) if inner else 0.0


def draw(image: Image.Image, found: np.ndarray, names: dict[int, str]) -> Image.Image:
    """Return a copy of the image with each box, its class and its score."""
    result = image.copy()
    pen = ImageDraw.Draw(result)
    width = max(2, round(max(image.size) / 300))
    for x1, y1, x2, y2, score, label in found:
        colour = PALETTE[int(label) % len(PALETTE)]
        pen.rectangle((x1, y1, x2, y2), outline=colour, width=width)
        text = f"{names[int(label)]} {score:.2f}"
        _, _, right, bottom = pen.textbbox((0, 0), text, font_size=6 * width)
        top = max(0, y1 - bottom - 4)
        pen.rectangle((x1, top, x1 + right + 6, top + bottom + 4), fill=colour)
        pen.text((x1 + 3, top + 1), text, fill="white", font_size=6 * width)
    return result


def run(argv: list[str]) -> int:
    """Detect, write the image, print one line per object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an .onnx file, a directory of OpenVINO, or a TensorRT engine")
    parser.add_argument("image", type=Path)
    parser.add_argument("--out", type=Path, default=Path("detections.png"), help="default: %(default)s")
    parser.add_argument("--conf", type=float, default=0.25, help="least confidence (default: %(default)s)")
    parser.add_argument("--iou", type=float, default=0.7, help="IoU of the suppression (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--cache", type=Path, help="where OpenVINO keeps the compiled model (default: nowhere)")
    args = parser.parse_args(argv)
    model, names, size = load(args.model, args.threads, args.cache)
    image = ImageOps.exif_transpose(Image.open(args.image)).convert("RGB")
    pixels, scale, (left, top) = letterbox(image, size)
    found = detections(model(pixels), len(names), args.conf, args.iou)
    found[:, :4] = (found[:, :4] - [left, top, left, top]) / scale
    found[:, :4] = found[:, :4].clip(0, [image.width, image.height, image.width, image.height])
    draw(image, found, names).save(args.out)
    for x1, y1, x2, y2, score, label in found:
        print(f"{names[int(label)]} {score:.3f} at {x1:.0f},{y1:.0f} to {x2:.0f},{y2:.0f}")
    print(f"{len(found)} objects, drawn in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
