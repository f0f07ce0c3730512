"""Cost of calibrating by every method at once against the float forward of the same images, in one run.

    python benchmarks/calibration.py yolov8n.pt --imgsz 640 --images 16
    python benchmarks/calibration.py yolov8n.pt --imgsz 640 --images 16 --modelopt-python /elsewhere/bin/python

Every round times, in turn: the float forward (the baseline), the forward that collects a histogram of every quantized tensor,
the same with systematic sampling, and the forward that torch.ao's HistogramObserver watches. Figures are medians over the
rounds of the ratio to the float forward of the same round, so that a change of the machine's speed hits both. The searches of
amax are timed on what was collected. NVIDIA ModelOpt, which wants an environment of its own, is run there by its interpreter
on the same tensors, after the rounds (see modelopt_collect.py).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.ao.quantization import HistogramObserver

from yoloqat.config import MethodSpec, QuantConfig
from yoloqat.datasets import calibration_images, plan_batches, read_batches
from yoloqat.detectors import Detector, TorchPredictor, load_detector, torch_threads
from yoloqat.predictor import Images
from yoloqat.provenance import environment, write_json
from yoloqat.quant import activation_quantizers, collecting, quantization_disabled
from yoloqat.quant.calib import HistogramCalibrator

METHODS = ("max", "entropy", "mse", "percentile-99.9", "percentile-99.99", "percentile-99.999")


def seconds(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_memory() -> float:
    """Return the largest memory that this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def calibrating(detector: Detector, sample: int) -> Iterator[None]:
    """Let every quantizer of activations collect into an empty histogram."""
    for _, quantizer in activation_quantizers(detector.module):
        quantizer._calibrator = HistogramCalibrator(quantizer.scheme.bits, num_bins=8192, sample=sample)
    with collecting(detector.module):
        yield


@contextmanager
def observing(detector: Detector, watch: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    """Let ``watch`` see every tensor that a quantizer reads, each once in a forward, while the model runs in float."""
    seen: set[tuple[str, int]] = set()

    def hook(name: str) -> Callable[..., None]:
        def look(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
            if (name, id(inputs[0])) not in seen:
                seen.add((name, id(inputs[0])))
                held.append(inputs[0])  # an id is unique only as long as its object lives
                watch(name, inputs[0])

        return look

    def forget(*_: object) -> None:
        seen.clear()
        held.clear()

    held: list[torch.Tensor] = []
    handles = [detector.module.register_forward_pre_hook(forget)]
    handles += [q.register_forward_pre_hook(hook(name)) for name, q in activation_quantizers(detector.module)]
    with quantization_disabled(detector.module):
        yield
    held.clear()
    for handle in handles:
        handle.remove()


def observed(detector: Detector, predictor: TorchPredictor, images: Images) -> float:
    """Return the seconds of a forward that torch.ao watches, with the search of its ranges."""
    observers = {name: HistogramObserver() for name, _ in activation_quantizers(detector.module)}

    def work() -> None:
        predictor(images)
        for observer in observers.values():
            observer.calculate_qparams()

    with observing(detector, lambda name, x: (observers[name](x), None)[1]):
        return seconds(work)


def searches(detector: Detector) -> dict[str, list[float]]:
    """Return the seconds of every search, one per tensor."""
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for _, quantizer in activation_quantizers(detector.module):
        histogram = quantizer._calibrator.histogram()
        for name in METHODS:
            found[name].append(seconds(partial(histogram.compute_amax, MethodSpec.parse(name))))
    return found


def modelopt(python: Path, detector: Detector, predictor: TorchPredictor, images: Images, searched: int) -> Any:
    """Let ModelOpt collect the same tensors in its own environment, and return what it measured."""
    with tempfile.TemporaryDirectory() as folder:
        count = 0

        def keep(name: str, x: torch.Tensor) -> None:
            nonlocal count
            np.save(Path(folder) / f"{count:05d}-{name}.npy", x.contiguous().numpy())
            count += 1

        with observing(detector, keep):
            predictor(images)
        script = Path(__file__).with_name("modelopt_collect.py")
        line = [str(python), str(script), folder, "--search", str(searched), "--threads", str(torch.get_num_threads())]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"ModelOpt did not run: {done.stderr.strip().splitlines()[-1:]}")
        return json.loads(done.stdout.strip().splitlines()[-1])


def load_images(args: argparse.Namespace, stride: int) -> Images:
    """Return real images where a data set was named, else noise."""
    if args.data is None:
        return np.random.default_rng(0).random((args.images, 3, args.imgsz, args.imgsz), dtype=np.float32)
    records = calibration_images(args.data, args.images)
    return next(read_batches(plan_batches(records, args.imgsz, args.images, stride=stride))).images


def main() -> None:
    """Measure and print one row per way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, help="data set YAML whose training images are taken (default: noise)")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sample", type=int, default=16, help="distance between the counted elements of large tensors")
    parser.add_argument("--of", type=int, default=64, help="calibration images over which the searches are spread")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--modelopt-python", type=Path, help="interpreter of an environment with nvidia-modelopt")
    parser.add_argument("--modelopt-tensors", type=int, default=3, help="tensors that ModelOpt searches amax of")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON")
    args = parser.parse_args()
    detector = load_detector(args.model)
    detector.quantize(QuantConfig())
    predictor = TorchPredictor(detector)
    images = load_images(args, detector.info.stride)
    tensors = len(list(activation_quantizers(detector.module)))
    with torch_threads(args.threads) as threads:
        figures = measure(detector, predictor, images, args)
    print(f"{args.model.name} {args.imgsz} px, {len(images)} images, {tensors} scales, {threads} threads")
    for name, (value, ratio) in figures["rows"].items():
        print(f"{name:58s} {value:8.3f} s  {ratio:7.2f} x float")
    for name, value in figures["per_tensor"].items():
        print(f"{name:58s} {1e3 * value:8.2f} ms a tensor")
    for name, value in figures["peak_mb"].items():
        print(f"{name:58s} {value:8.0f} MB")
    if args.out is not None:
        write_json(args.out, {"provenance": environment(device="cpu", threads=threads), **figures})


def measure(detector: Detector, predictor: TorchPredictor, images: Images, args: argparse.Namespace) -> dict[str, Any]:
    """Return the rows, the seconds per tensor and method, and the peaks of memory."""
    peaks = {}
    with quantization_disabled(detector.module):
        predictor(images)
    peaks["peak memory after the float forward"] = peak_memory()
    taken: dict[str, list[float]] = {name: [] for name in ("float", "full", "sampled", "torch.ao")}
    for turn in range(args.rounds):
        with quantization_disabled(detector.module):
            taken["float"].append(seconds(lambda: predictor(images)))
        for name, sample in (("sampled", args.sample), ("full", 1)):
            with calibrating(detector, sample):
                taken[name].append(seconds(lambda: predictor(images)))
            if turn == 0 and name == "full":
                peaks["peak memory after collecting everything"] = peak_memory()
        if turn < 1:  # its search takes as long as many forwards
            taken["torch.ao"].append(observed(detector, predictor, images))
    peaks["peak memory after torch.ao's observers"] = peak_memory()
    search = searches(detector)
    # the searches cost the same however many images there are: they are charged as for a calibration on `--of` images
    all_amax = sum(sum(values) for values in search.values()) * len(images) / args.of
    floating = float(np.median(taken["float"]))

    def ratio(name: str, more: float = 0.0) -> tuple[float, float]:
        ratios = [(value + more) / base for value, base in zip(taken[name], taken["float"], strict=False)]
        return float(np.median(taken[name])) + more, float(np.median(ratios))

    rows = {
        "float forward": (floating, 1.0),
        "forward and collection of every element": ratio("full"),
        f"  and amax of all six methods, of {args.of} images": ratio("full", all_amax),
        f"forward and collection, every {args.sample}th element of large tensors": ratio("sampled"),
        f"  and amax of all six methods, of {args.of} images, sampled": ratio("sampled", all_amax),
        "forward and torch.ao HistogramObserver, its one range": ratio("torch.ao"),
        "entropy and mse of all tensors": (
            sum(search["entropy"]) + sum(search["mse"]),
            (sum(search["entropy"]) + sum(search["mse"])) / floating,
        ),
    }
    per_tensor = {f"search by {name}": float(np.mean(values)) for name, values in search.items()}
    if args.modelopt_python is not None:
        theirs = modelopt(args.modelopt_python, detector, predictor, images, args.modelopt_tensors)
        whole = floating + theirs["collect_seconds"]
        rows[f"forward and ModelOpt {theirs['version']} histogram collection"] = (whole, whole / floating)
        per_tensor |= {f"ModelOpt's search by {name}": value for name, value in theirs["search_seconds"].items()}
        peaks["peak memory of ModelOpt's process (it loads the tensors one at a time)"] = theirs["peak_mb"]
    return {"rows": rows, "per_tensor": per_tensor, "peak_mb": peaks}


if __name__ == "__main__":
    main()
