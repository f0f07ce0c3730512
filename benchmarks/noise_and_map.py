"""Does a measure of the noise order what mAP drops: many bit widths, methods, models and image sizes.

    python benchmarks/noise_and_map.py run --weights ../shared/real/weights --data ../shared/real/coco/coco_val.yaml --out points
    python benchmarks/noise_and_map.py fit points --plot docs/images/noise_and_map.png

`run` writes one file per point and goes on where it stopped. Each point is one calibrated model: its drop of mAP50-95 with the
paired interval, and on the same images, in the same pass, several measures of how far its class probabilities are from the float
model's. `fit` prints Spearman's rank correlation of every measure with the drop per model, pooled over sizes and bits, chooses on
the first two models and confirms on the others, and draws drops over d with the monotone fit and its band.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig, QuantScheme
from yoloqat.config.method import DEFAULT_METHODS, PER_LAYER
from yoloqat.datasets import calibration_images, load_dataset, plan_batches, read_batches
from yoloqat.detectors import load_detector, torch_threads
from yoloqat.evaluation import Detections, Evaluation, score
from yoloqat.evaluation.drops import Baseline
from yoloqat.evaluation.fidelity import measure
from yoloqat.evaluation.scoring import suppressed
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.provenance import write_json
from yoloqat.quant import quantization_disabled
from yoloqat.sensitivity.proxies import rank_correlation

MODELS = ("yolov8n.pt", "yolov8s.pt", "yolov5s.pt", "yolov8n-seg.pt")
"""The first two choose among the measures, the others confirm."""

SIZES, BITS = (320, 640), (8, 7, 6)

METHODS = tuple(method for method in DEFAULT_METHODS if method.kind != PER_LAYER)

Values = NDArray[np.float64]


def others(p: NDArray[np.float32], q: NDArray[np.float32]) -> dict[str, Values]:
    """Return other measures of class probabilities by image: squared error, confidence weighting, logits, KL, Hellinger."""
    p, q = p.astype(np.float64), q.astype(np.float64)
    a, b = np.clip(p, 1e-7, 1 - 1e-7), np.clip(q, 1e-7, 1 - 1e-7)
    error, axes = np.abs(q - p), (1, 2)
    kl = a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b))
    logits = np.abs(np.log(a / (1 - a)) - np.log(b / (1 - b)))
    signal, power = p.sum(axis=axes), (p * p).sum(axis=axes)
    return {
        "squared": np.sqrt((error * error).sum(axis=axes) / power),
        "weighted": (p * error).sum(axis=axes) / power,
        "either_weighted": (np.maximum(p, q) * error).sum(axis=axes) / power,
        "logits": (p * logits).sum(axis=axes) / signal,
        "kl": kl.sum(axis=axes) / signal,
        "root_kl": np.sqrt(kl.sum(axis=axes) / signal),
        "hellinger": np.sqrt(((np.sqrt(a) - np.sqrt(b)) ** 2).sum(axis=axes) / signal),
    }


def listed(values: Values) -> list[float | None]:
    """Return values for a JSON file, None for those that an image does not have."""
    return [float(value) if np.isfinite(value) else None for value in values]


def mean_of(values: list[float | None]) -> float:
    """Return the mean size over the images that have a value."""
    return float(np.nanmean(np.abs(np.asarray(values, dtype=np.float64))))


def points(args: argparse.Namespace, model: str, imgsz: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the content of each point of one model at one size that is not there yet."""
    wanted = {
        (bits, str(method)): f"{Path(model).stem}-{imgsz}-{bits}-{method}.json" for bits in BITS for method in METHODS
    }
    if all((args.out / name).exists() for name in wanted.values()):
        return
    dataset = load_dataset(args.data)
    config = EvalConfig(imgsz=imgsz, batch=args.batch)
    run = Run(args.out / "work", torch.device("cpu"), 1)
    records = calibration_images(args.data, args.calib_images, 0)
    outputs: list[list[NDArray[np.float32]]] = []
    baseline: Baseline | None = None
    for bits in BITS:
        detector = load_detector(args.weights / model)
        weights = QuantScheme(bits=bits, axis=0, narrow_range=True)
        ptq = Ptq(
            detector,
            records,
            quant=QuantConfig(activations=QuantScheme(bits=bits), weights=weights),
            calibration=CalibrationConfig(images=args.calib_images),
            imgsz=imgsz,
            batch=args.batch,
            run=run,
        )

        def evaluated(keep: bool, ptq: Ptq = ptq) -> tuple[Evaluation, dict[str, list[float | None]]]:
            info, rows, ids = ptq.predictor.info, [], []
            measures: dict[str, list[Values]] = {}
            with closing(read_batches(plan_batches(dataset.images, imgsz, args.batch))) as batches:
                for number, batch in enumerate(batches):
                    raw = ptq.predictor(batch.images)
                    rows += suppressed(raw[0], batch, info, config)
                    ids += [record.image_id for record in batch.records]
                    if keep:
                        outputs.append([raw[0].copy()])
                        continue
                    last = 4 + info.classes
                    found = measure(outputs[number], [raw[0]], info)
                    found |= others(outputs[number][0][:, 4:last], raw[0][:, 4:last])
                    for name, values in found.items():
                        measures.setdefault(name, []).append(values)
            joined = {name: listed(np.concatenate(parts)) for name, parts in measures.items()}
            return score(dataset, Detections.of_images(ids, rows), info.names), joined

        if baseline is None:
            with quantization_disabled(ptq.detector.module):
                floating, _ = evaluated(keep=True)
            baseline = Baseline(floating.matches)
        for method in METHODS:
            name = wanted[bits, str(method)]
            if (args.out / name).exists():
                continue
            ptq.apply(MethodSpec.parse(str(method)))
            evaluation, measures = evaluated(keep=False)
            drop = baseline.drop(evaluation.matches)
            yield (
                name,
                {
                    "model": model,
                    "imgsz": imgsz,
                    "bits": bits,
                    "method": str(method),
                    "map_float": floating.metrics.map50_95,
                    "drop": drop.difference,
                    "drop_ci95": [drop.low, drop.high],
                    "measures": measures,
                },
            )


def run(args: argparse.Namespace) -> None:
    """Measure every point."""
    args.out.mkdir(parents=True, exist_ok=True)
    with torch_threads(1):
        for imgsz in args.sizes:
            for model in args.models:
                for name, content in points(args, model, imgsz):
                    write_json(args.out / name, content)
                    print(f"{name}: drop {content['drop']:+.4f}, d {mean_of(content['measures']['d']):.3f}", flush=True)


KNOTS = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5)
"""Values of d at which the rule is written down, as :mod:`yoloqat.evaluation.expected_drop` holds it."""


def monotone(d: Values, drop: Values, at: Values) -> Values:
    """Return the rising fit of the drops at some values of d: nothing at no noise, straight between the steps' middles."""
    fit = IsotonicRegression(y_min=0.0, out_of_bounds="clip").fit(np.append(d, 0.0), np.append(drop, 0.0))
    heights = fit.predict(np.sort(d))
    middles = [(0.0, 0.0)]
    for height in np.unique(heights):
        middles.append((float(np.sort(d)[heights == height].mean()), float(height)))
    return np.interp(at, *np.asarray(middles).T)


def spread(d: Values, drop: Values, at: Values) -> Values:
    """Return half the width of a band that holds 95 % of the drops, rising with d."""
    residual = np.abs(drop - monotone(d, drop, d))
    sizes = IsotonicRegression(out_of_bounds="clip").fit(d, residual).predict(at)
    return 1.96 * np.sqrt(np.pi / 2) * sizes  # of normal residuals the mean size is sqrt(2 / pi) standard deviations


def ordered(values: Values, drops: Values, models: list[str], model: str) -> float:
    """Return how a measure orders the drops of one model: Spearman's rank correlation."""
    own = np.asarray([other == model for other in models])
    return rank_correlation(values[own].tolist(), drops[own].tolist()) or 0.0


def difference(a: Values, b: Values, drops: Values, own: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two measures' rank correlations, over resampled points."""
    rng, places = np.random.default_rng(0), np.flatnonzero(own)
    found = []
    for _ in range(1000):
        drawn = rng.choice(places, len(places))
        both = [rank_correlation(values[drawn].tolist(), drops[drawn].tolist()) or 0.0 for values in (a, b)]
        found.append(both[0] - both[1])
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def fit(args: argparse.Namespace) -> None:
    """Print how each measure orders the drops and the rule that comes of it, and draw both."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(args.points.glob("*.json"))]
    drops = np.asarray([point["drop"] for point in found])
    relative = np.asarray([point["drop"] / point["map_float"] for point in found])
    models = [point["model"] for point in found]
    names = list(found[0]["measures"])
    means = {name: np.asarray([mean_of(point["measures"][name]) for point in found]) for name in names}
    print(f"{'measure':18}" + "".join(f"{model.removesuffix('.pt'):>14}" for model in MODELS) + f"{'pooled':>14}")
    for name, values in means.items():
        cells = []
        for model in MODELS:
            own = np.asarray([other == model for other in models])
            cells.append(rank_correlation(values[own].tolist(), drops[own].tolist()) if own.any() else None)
        cells.append(rank_correlation(values.tolist(), relative.tolist()))
        print(f"{name:18}" + "".join(f"{'-':>14}" if cell is None else f"{cell:14.3f}" for cell in cells))
    best = max(
        names, key=lambda name: float(np.mean([ordered(means[name], drops, models, model) for model in MODELS[:2]]))
    )
    print(f"best on {' and '.join(MODELS[:2])}: {best}; on the others its correlation minus that of d:")
    for model in MODELS[2:]:
        low, high = difference(means[best], means["d"], drops, np.asarray([other == model for other in models]))
        gained = ordered(means[best], drops, models, model) - ordered(means["d"], drops, models, model)
        print(f"  {model} {gained:+.3f} [{low:+.3f}, {high:+.3f}] on resampled points")
    print("points: " + ", ".join(f"{model} {models.count(model)}" for model in MODELS))
    d, knots = means["d"], np.asarray(KNOTS)
    middle, half = monotone(d, relative, knots), spread(d, relative, knots)
    for name, values in (("KNOTS", knots), ("MIDDLE", middle), ("SPREAD", half)):
        print(f"{name} = ({', '.join(f'{value:.4g}' for value in values)})")
    inside = np.abs(relative - np.interp(d, knots, middle)) <= np.interp(d, knots, half)
    print(f"{100 * inside.mean():.0f} % of the points lie in the band")
    if args.plot is not None:
        fine = np.linspace(0.0, KNOTS[-1], 200)
        lines = tuple(np.interp(fine, knots, values) for values in (middle, middle - half, middle + half))
        draw(args.plot, found, d, relative, fine, lines)


def draw(
    path: Path, found: list[dict[str, Any]], d: Values, relative: Values, knots: Values, lines: tuple[Values, ...]
) -> None:
    """Draw relative drops over d, with the fit and its band."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for model, marker in zip(MODELS, "os^D", strict=True):
        for bits, colour in zip(BITS, ("tab:blue", "tab:orange", "tab:red"), strict=True):
            own = [index for index, point in enumerate(found) if point["model"] == model and point["bits"] == bits]
            label = f"{model.removesuffix('.pt')}, {bits} bits"
            axes.plot(d[own], 100 * relative[own], marker, color=colour, alpha=0.6, markersize=5, label=label)
    middle, low, high = lines
    axes.plot(knots, 100 * middle, color="black", label="monotone fit")
    axes.fill_between(knots, 100 * low, 100 * high, color="black", alpha=0.15, label="band of 95 % of the points")
    axes.set_xlim(0.08, KNOTS[-1])
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=2)
    axes.set_xlabel("noise d against the float model (lower is better)")
    axes.set_ylabel("drop of mAP50-95, share of the float model's")
    axes.set_xticks([0.1, 0.2, 0.3, 0.5, 1.0, 1.5], ["0.1", "0.2", "0.3", "0.5", "1", "1.5"], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_yticks([-1, 0, 1, 2, 5, 10, 20, 50], ["-1 %", "0", "1 %", "2 %", "5 %", "10 %", "20 %", "50 %"])
    axes.set_ylim(-1.5, 80)
    axes.grid(linewidth=0.4, alpha=0.5)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.legend(fontsize=7, ncols=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("run")
    measuring.add_argument("--weights", type=Path, required=True)
    measuring.add_argument("--data", type=Path, required=True)
    measuring.add_argument("--out", type=Path, required=True)
    measuring.add_argument("--models", nargs="+", default=list(MODELS))
    measuring.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    measuring.add_argument("--batch", type=int, default=8)
    measuring.add_argument("--calib-images", type=int, default=64)
    measuring.set_defaults(run=run)
    fitting = commands.add_parser("fit")
    fitting.add_argument("points", type=Path)
    fitting.add_argument("--plot", type=Path)
    fitting.set_defaults(run=fit)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
