"""yoloqat's OpenVINO models beside the one that Ultralytics' own INT8 export (NNCF) makes, in one run on the same images.

    pip install "nncf>=3.0"
    python benchmarks/openvino_nncf.py yolov8n.pt runs/export/model.onnx --data coco.yaml

NNCF's model is calibrated on the same training images as yoloqat's (`--calib-images`, `--seed`); by default Ultralytics would
take the validation images. Times are interleaved, of the wall clock and of the processor (all threads together), the latter
little disturbed by neighbours. Drops are float minus each, with paired intervals, and so is NNCF minus yoloqat. The noise d of
the class probabilities against the float model and the box disagreement are of the same images (`--noise-images` of them), each
with its ratio to NNCF's and a paired interval. `--nncf-model DIR` takes an export that is there already, and needs no NNCF;
`--save-nncf DIR` keeps the one made here. NNCF's model has no guard against the saturating sums of processors without VNNI; nor
has what `--vnni` builds, which is the row to compare times with where the processor has it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from ratio import Ratio
from subset import first_images

from yoloqat.config import EvalConfig
from yoloqat.datasets import calibration_images, load_dataset, spread
from yoloqat.detectors import TorchPredictor, load_detector, torch_threads
from yoloqat.detectors.ultralytics_import import environment_kept, ultralytics_module
from yoloqat.engines import OpenVINOPredictor, build_openvino, cpu_saturates
from yoloqat.engines.openvino import guard
from yoloqat.engines.precision import INT8
from yoloqat.evaluation import evaluate, paired_difference
from yoloqat.evaluation.drops import drop_results
from yoloqat.evaluation.fidelity import BOX, NOISE, mean
from yoloqat.evaluation.reference import Reference
from yoloqat.predictor import Predictor
from yoloqat.provenance import environment, write_json


def nncf_export(weights: Path, images: Sequence[Path], names: dict[int, str], *, imgsz: int, folder: Path) -> Path:
    """Let Ultralytics export ``weights`` with NNCF, calibrated on ``images``, and return the directory."""
    link = folder / "weights.pt"  # a name for which Ultralytics looks nothing up
    link.symlink_to(weights.resolve())
    (folder / "calibration.txt").write_text("".join(f"{path.resolve()}\n" for path in images))
    data = {"path": str(folder), "train": "calibration.txt", "val": "calibration.txt", "names": names}
    (folder / "calibration.yaml").write_text(yaml.safe_dump(data))
    with environment_kept():
        model = ultralytics_module("models.yolo.model").YOLO(str(link))
        exported = model.export(
            format="openvino", int8=True, data=str(folder / "calibration.yaml"), imgsz=imgsz, batch=1, device="cpu"
        )
    return Path(exported)


def main() -> None:
    """Measure and print one row per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="the float .pt")
    parser.add_argument("onnx", type=Path, nargs="+", help="QDQ ONNX files that yoloqat exported from it")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, help="score the first N images (default: all)")
    parser.add_argument("--calib-images", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--nncf-model", type=Path, help="directory of an earlier export, instead of a new one")
    parser.add_argument("--save-nncf", type=Path, help="keep the export in this directory")
    parser.add_argument("--noise-images", type=int, default=64, help="validation images that d is measured on")
    parser.add_argument("--vnni", action="store_true", help="a row more of each file, built as by `build --vnni`")
    parser.add_argument("--no-eval", action="store_true", help="only the times and the noise")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, torch_threads(args.threads):
        _compare(args, Path(name))


def _compare(args: argparse.Namespace, folder: Path) -> None:
    detector = load_detector(args.weights)
    paths: dict[str, Path] = {}
    for onnx in args.onnx:
        for vnni in (False, True) if args.vnni else (False,):
            name = f"{onnx.parent.parent.name}{', --vnni' if vnni else ''}"
            paths[name] = folder / f"built{len(paths)}"
            build_openvino(onnx, paths[name], threads=args.threads, **guard(vnni=vnni))
    size = OpenVINOPredictor(next(iter(paths.values()))).info.imgsz
    imgsz = max(size) if size else detector.imgsz
    theirs = args.nncf_model
    if theirs is None:
        images = [record.path for record in calibration_images(args.data, args.calib_images, args.seed)]
        theirs = nncf_export(args.weights, images, detector.info.names, imgsz=imgsz, folder=folder)
        if args.save_nncf is not None:
            shutil.copytree(theirs, args.save_nncf)
    paths = {"NNCF": theirs, **paths}
    models = {name: OpenVINOPredictor(path, threads=args.threads) for name, path in paths.items()}
    times = _times(models, imgsz, args.rounds)
    rows: dict[str, dict[str, object]] = {}
    for name, model in models.items():
        found = model.precision
        macs = sum(layer.macs for layer in found.convolutions)
        ratios = times[name] / times["NNCF"]  # of the wall clock, of the processor
        rows[name] = {
            "int8_convolutions": len(found.int8_convolutions),
            "int8_mac_share_all": sum(x.macs for x in found.convolutions if x.precision in INT8) / macs,
            "p50_ms": float(np.median(times[name][:, 0]) * 1e3),
            "ratio_to_nncf": float(np.median(ratios[:, 0])),
            "ratio_quartiles": [float(x) for x in np.percentile(ratios[:, 0], [25, 75])],
            "processor_ms": float(np.median(times[name][:, 1]) * 1e3),
            "processor_ratio_to_nncf": float(np.median(ratios[:, 1])),
        }
        print(f"{name:28s} {json.dumps(rows[name])}", flush=True)
    _fidelity(args, TorchPredictor(detector), models, imgsz, rows)
    if not args.no_eval:
        _score(args, TorchPredictor(detector), models, imgsz, rows)
    provenance = environment(device="cpu", threads=args.threads) | {"saturates": cpu_saturates()}
    if args.out is not None:
        write_json(args.out, {"provenance": provenance, "weights": args.weights.name, "models": rows})


def _times(models: dict[str, OpenVINOPredictor], imgsz: int, rounds: int) -> dict[str, np.ndarray]:
    """Return by model the seconds of each round, (rounds, 2): wall clock and processor; each round times all in turn."""
    image = np.random.default_rng(0).random((1, 3, imgsz, imgsz), dtype=np.float32)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    names = list(models)
    for turn in range(rounds + 5):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            wall, busy = time.perf_counter(), time.process_time()
            models[name](image)
            if turn >= 5:
                seconds[name].append((time.perf_counter() - wall, time.process_time() - busy))
    return {name: np.array(values) for name, values in seconds.items()}


def _fidelity(
    args: argparse.Namespace,
    floating: Predictor,
    models: dict[str, OpenVINOPredictor],
    imgsz: int,
    rows: dict[str, dict[str, object]],
) -> None:
    images = spread(load_dataset(args.data).images, args.noise_images)
    reference = Reference(floating, images, EvalConfig(imgsz=imgsz, batch=1), detections=False)
    found = {name: reference.compare(model).measures for name, model in models.items()}
    for name, measures in found.items():
        noise: dict[str, object] = {}
        for key in (NOISE, BOX):
            noise |= mean(measures[key]).to_dict(key)
            noise |= Ratio.of(measures[key], found["NNCF"][key]).to_dict(f"{key}_of_nncf")
        rows[name] |= noise | {"noise_images": len(images)}
        print(f"{name:28s} {json.dumps(noise)}", flush=True)


def _score(
    args: argparse.Namespace,
    floating: Predictor,
    models: dict[str, OpenVINOPredictor],
    imgsz: int,
    rows: dict[str, dict[str, object]],
) -> None:
    dataset = first_images(load_dataset(args.data), args.images)
    config = EvalConfig(imgsz=imgsz, batch=1)
    reference = evaluate(floating, dataset, config)
    print(f"float {reference.metrics.map50_95:.4f} on {reference.metrics.images} images", flush=True)
    found = {name: evaluate(model, dataset, config) for name, model in models.items()}
    for name, evaluation in found.items():
        drop = paired_difference(reference.matches, evaluation.matches)
        beside = paired_difference(found["NNCF"].matches, evaluation.matches)
        scores = {
            "map50_95": evaluation.metrics.map50_95,
            **drop_results(drop),
            **drop_results(beside, "nncf_minus_this"),
        }
        rows[name] |= {"map_float": reference.metrics.map50_95, **scores}
        print(f"{name:28s} {json.dumps(scores)}", flush=True)


if __name__ == "__main__":
    main()
