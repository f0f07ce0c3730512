"""Rank layers, quantizers or blocks by what they cost in COCO mAP, with intervals.

In the default mode leave-one-out everything is quantized but the quantizers under test, and the effect is the mAP won back; in
one-at-a-time nothing else is quantized, and the effect is the mAP lost. Only what lies behind the switched quantizers is computed
again, so that a scan costs less than half of one evaluation per item and gives the same numbers to the last bit.

Every finished piece is kept in DIR/study.db: the same line goes on after any interruption, and several processes may run it
at once. --budget 0.1 spends a tenth of what an evaluation per item would cost, on the images where the ranking is
undecided. Writes items.csv, effects.png and ignore.txt, which calibrate --ignore @DIR/ignore.txt takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from yoloqat.cli import calibrate, options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.fields import add_field, default_of
from yoloqat.cli.next_line import next_line
from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, to_dict
from yoloqat.detectors import load_detector, save_checkpoint
from yoloqat.detectors.detector import Detector
from yoloqat.pipeline.ptq import Ptq, refuse_settings
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.sensitivity import CHART, IGNORE, STUDY, TABLE, ScanOptions, run_scan
from yoloqat.pipeline.tables import ranking_table
from yoloqat.sensitivity.settings import GRANULARITIES, GROUP, MODES, ScanConfig

CHECKPOINT = "model.safetensors"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="calibrated .safetensors, or an Ultralytics .pt, which is calibrated first",
    )
    group = parser.add_argument_group("scan")
    add_field(group, ScanConfig, "mode", "leave one out, or switch one on at a time", choices=MODES)
    add_field(group, ScanConfig, "granularity", "what is switched", choices=GRANULARITIES[:-1])
    group.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="NAME=PATTERN,...",
        help="switch these layers together, instead of --granularity; patterns as for --ignore; may be repeated",
    )
    group.add_argument(
        "--bits",
        dest="switched_bits",
        type=int,
        metavar="N",
        help="bit width of what is switched (default: its own, or off)",
    )
    add_field(
        group,
        ScanConfig,
        "metric",
        "map50_95, map50, map75, map_small, map_medium, map_large or class:NAME",
        metavar="M",
    )
    group.add_argument(
        "--budget", type=float, metavar="F", help="share of the cost of one evaluation per item to spend"
    )
    add_field(group, ScanOptions, "workers", "local processes, or workers of --ray")
    group.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster; 'local' starts one on this machine")
    add_field(group, ScanOptions, "top", "items that the ignore-list names", metavar="K")
    group.add_argument(
        "--replay-memory",
        type=int,
        default=ScanOptions.memory >> 20,
        metavar="MB",
        help="memory for values that are used again (default: %(default)s)",
    )
    options.add_data(parser)
    options.add_evaluation(parser)
    options.add_calibration(parser)
    group = parser.add_argument_group("calibration of a .pt")
    group.add_argument(
        "--method",
        default=str(default_of(CalibrationConfig, "method")),
        metavar="M",
        help="max, entropy, mse or percentile-99.9 (default: %(default)s)",
    )
    options.add_quantization(parser, bits="--base-bits")


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    scan = ScanConfig(
        mode=args.mode,
        granularity=GROUP if args.group else args.granularity,
        groups=tuple(args.group),
        bits=args.switched_bits,
        metric=args.metric,
    )
    settings = ScanOptions(
        budget=args.budget,
        workers=args.workers,
        ray=args.ray,
        memory=args.replay_memory << 20,
        top=args.top,
        seed=args.seed,
    )
    dataset = options.required_dataset(args)
    detector = load_detector(args.model)
    config = options.eval_config(args, detector.imgsz)
    checkpoint = _checkpoint(args, detector, config, run)
    found = run_scan(checkpoint, dataset, config, scan=scan, options=settings, run=run)
    results = found.results
    inputs = {"model": options.model_input(detector), "data": options.dataset_input(dataset)}
    used: dict[str, Any] = {"evaluation": to_dict(config), "scan": to_dict(scan), "options": vars(settings)}
    if checkpoint != args.model:
        used |= {"quantization": to_dict(options.quant_config(args)), "method": args.method}
    files = [STUDY, TABLE, CHART, IGNORE]
    lines = [_next_line(args, detector, run.out / IGNORE)]
    return Outcome(used, results, inputs, [ranking_table(args.model.name, results)], files, lines)


def _next_line(args: argparse.Namespace, detector: Detector, ignore: Path) -> str:
    """Return the line that calibrates as the scanned model was, without what is on the ignore-list."""
    scanned = detector.quantization
    was: dict[str, Any] = {} if scanned is None or not scanned.calibration else options.calibrated_with(scanned)
    patterns = [*was.pop("ignore", args.ignore), f"@{ignore}"]
    return next_line(args, calibrate.COMMAND, detector.source.path, ignore=patterns, **was)


def _checkpoint(args: argparse.Namespace, detector: Detector, config: EvalConfig, run: Run) -> Path:
    """Return the checkpoint to scan: the model itself, or the one that is calibrated from it here.

    Raises:
        ConfigError: Calibration options came with a model that is calibrated already.
        YoloqatError: As for calibrate.
    """
    model, method = Path(args.model), MethodSpec.parse(args.method)
    if detector.quantization is not None:
        refuse_settings(model, options.quant_config(args), method)
        return model
    ptq = Ptq(
        detector,
        options.calibration_records(args),
        quant=options.quant_config(args),
        calibration=options.calibration_config(args, method),
        imgsz=config.imgsz,
        batch=config.batch,
        run=run,
    )
    ptq.apply(method)
    path = run.out / CHECKPOINT
    save_checkpoint(detector, path)
    return path


COMMAND = Command(
    "sensitivity",
    __doc__ or "",
    _arguments,
    _run,
    files=(STUDY, f"{STUDY}-wal", f"{STUDY}-shm", TABLE, CHART, IGNORE, CHECKPOINT),
    continues=("budget", "workers", "ray", "replay_memory"),
)
