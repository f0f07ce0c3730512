"""What 8-bit convolutions do to a detector on this processor: one QDQ file, three ways to run it in OpenVINO, in one run.

    python benchmarks/saturation.py runs/export/model.onnx --data coco.yaml --images 100

Baseline: the same file in ONNX Runtime, which computes Q/DQ as written. Rows: the file as it is (signed activations),
unsigned with zero-point 128, and what `yoloqat build` makes.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from yoloqat.config import EvalConfig
from yoloqat.datasets import load_dataset
from yoloqat.engines import OnnxPredictor, OpenVINOPredictor, build_openvino, cpu_saturates
from yoloqat.evaluation import evaluate, paired_difference


def main() -> None:
    """Measure and print one row per way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("onnx", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    whole = load_dataset(args.data)
    images = whole.images[: args.images]
    ids = {record.image_id for record in images}
    annotations = whole.annotations | {
        "images": [entry for entry in whole.annotations["images"] if entry["id"] in ids],
        "annotations": [entry for entry in whole.annotations["annotations"] if entry["image_id"] in ids],
    }
    dataset = replace(whole, images=images, annotations=annotations)
    print(f"{len(images)} images; 8-bit sums saturate on this processor: {cpu_saturates()}")
    with tempfile.TemporaryDirectory() as folder:
        shifted, built = Path(folder) / "shifted", Path(folder) / "built"
        build_openvino(args.onnx, shifted, threads=args.threads, tight=False, split_above=1.0)
        build_openvino(args.onnx, built, threads=args.threads)
        reference = OnnxPredictor(args.onnx, threads=args.threads)
        size = reference.info.imgsz
        config = EvalConfig(imgsz=max(size) if size else 640, batch=reference.info.batch or 1)
        baseline = evaluate(reference, dataset, config)
        print(f"{'ONNX Runtime':42s} mAP50-95 {baseline.metrics.map50_95:.4f}")
        for name, path in (
            ("OpenVINO, the file as it is", args.onnx),
            ("OpenVINO, unsigned with zero-point 128", shifted),
            ("OpenVINO, as `yoloqat build` makes it", built),
        ):
            found = evaluate(OpenVINOPredictor(path, threads=args.threads), dataset, config)
            drop = paired_difference(baseline.matches, found.matches)
            print(
                f"{name:42s} mAP50-95 {found.metrics.map50_95:.4f}, ONNX Runtime minus this "
                f"{drop.difference:+.4f} [{drop.low:+.4f}, {drop.high:+.4f}]"
            )


if __name__ == "__main__":
    main()
