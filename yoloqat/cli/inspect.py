"""Show what a model is made of, what of it is quantized, and why the rest stays float.

Takes a float .pt, for which it tells what would be quantized with the given options, or a calibrated checkpoint. Nothing is
run but the trace of one grey image. With --quantizer it tells of a calibrated checkpoint why a quantizer, or the input and the
weight of a layer, are noisy, from the statistics of its calibration, and writes DIR/quantizer.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yoloqat.calibration.cache import statistics_of
from yoloqat.calibration.explain import WEIGHT, Explanation, explain, quantizers_named
from yoloqat.cli import compare, options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.next_line import next_line
from yoloqat.config import EvalConfig, to_dict
from yoloqat.config.sizes import size_text
from yoloqat.detectors import Detector, load_detector
from yoloqat.evaluation.scoring import check_fit
from yoloqat.pipeline.inspect import inspect_detector
from yoloqat.pipeline.run import Run
from yoloqat.report.quantizer_plot import draw_quantizers
from yoloqat.results import Table

PLOT = "quantizer.png"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="float .pt, or a yoloqat checkpoint")
    options.add_imgsz(parser, "side of the square image, or its height and width (default: the model's own)")
    parser.add_argument("--quantizer", metavar="NAME", help="explain a quantizer, or those of a layer")
    parser.add_argument(
        "--histograms", type=Path, metavar="FILE", help="statistics of its calibration (default: found beside MODEL)"
    )
    options.add_quantization(parser)


def _sides(shape: list[int]) -> str:
    return "x".join(map(str, shape))


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    detector = load_detector(args.model)
    evaluation = EvalConfig(imgsz=detector.imgsz if args.imgsz is None else args.imgsz)
    check_fit(detector.info, evaluation)
    imgsz = evaluation.imgsz
    config = options.quant_config(args)
    explained = None if args.quantizer is None else _explained(args, detector)
    found = inspect_detector(detector, config, imgsz=imgsz)
    settings = {"imgsz": imgsz, "quantization": to_dict(config)}
    inputs = {"model": options.model_input(detector)}
    if explained is not None:
        draw_quantizers(explained.results).save(run.out / PLOT)
        results = found | {"quantizer": explained.to_dict()}
        return Outcome(settings, results, inputs, explained.tables, [PLOT])
    share = found["quantized_macs"] / max(found["macs"], 1)
    about = (
        ("family, task", f"{found['family']}, {found['task']}"),
        ("classes", f"{len(found['names'])}"),
        ("largest stride, image size", f"{found['stride']}, {size_text(imgsz)} px"),
        ("parameters", f"{found['parameters']:,}"),
        ("multiply-adds of one image", f"{found['macs'] / 1e9:.2f} G"),
        ("quantized layers", f"{found['quantized_layers']} of {len(found['layers'])}"),
        ("quantized multiply-adds", f"{100 * share:.1f} %"),
        ("activation scales", f"{len(found['scales'])}"),
    )
    layers = tuple(
        (
            layer["name"],
            _sides(layer["input"]),
            _sides(layer["output"]),
            f"{layer['macs'] / 1e6:.1f}",
            "yes" if layer["quantized"] else layer["reason"],
        )
        for layer in found["layers"]
    )
    columns = ("layer", "input", "output", "M macs", "INT8")
    tables = [
        Table(str(args.model), ("what", "value"), about),
        Table("layers in the order of execution", columns, layers, left=(4,)),
    ]
    if found["unreached"]:
        unreached = tuple((line,) for line in found["unreached"])
        tables.append(Table("float because no quantizer reaches it", ("what",), unreached))
    lines = [] if found["calibrated"] else [next_line(args, compare.COMMAND, args.model, data="DATA.yaml")]
    return Outcome(settings, found, inputs, tables, next=lines)


def _explained(args: argparse.Namespace, detector: Detector) -> Explanation:
    locations = quantizers_named(detector, args.quantizer)
    weights = all(location.endswith(WEIGHT) for location in locations)
    return explain(detector, None if weights else statistics_of(detector, args.model, args.histograms), args.quantizer)


COMMAND = Command("inspect", __doc__ or "", _arguments, _run, files=(PLOT,))
