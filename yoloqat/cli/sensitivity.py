"""Find the layers that make the noise: a noise budget without labels, and the drop of COCO mAP with intervals.

Every run begins with the noise budget: each quantizer and each layer alone in the float model, and its share of the noise d of
the raw outputs. The shares add up to 100 %, and they tell layers apart where mAP says "tied". --mode noise ends there: 16 to 64
images suffice and need no labels (--images DIR). Otherwise a scan follows. In the default mode leave-one-out everything is
quantized but the quantizers under test, and the effect is the mAP won back; in one-at-a-time nothing else is quantized, and the
effect is the mAP lost. Items whose effect is tied with zero follow the others by their share of the noise.

Every finished piece is kept in DIR/study.db: the same line goes on after any interruption, and several processes may run it
at once. --scan-cost 0.1 spends a tenth of what an evaluation per item would cost, on the images where the ranking is
undecided. Writes items.csv, budget.png, effects.png and ignore.txt: the layers up to the knee of the noise curve, or those that
bring the expected drop within --max-drop, for calibrate --ignore @DIR/ignore.txt.

A model.onnx that calibrate made of a float .onnx takes --mode noise: each of its Q/DQ pairs alone in the float.onnx beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from yoloqat.cli import calibrate, onnx_file, options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.fields import add_field, default_of
from yoloqat.cli.next_line import next_line
from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, to_dict
from yoloqat.detectors import load_detector, save_checkpoint
from yoloqat.detectors.detector import Detector
from yoloqat.errors import ConfigError
from yoloqat.pipeline.noise_budget import BUDGET_CHART
from yoloqat.pipeline.noise_mode import MAP_STUDY, check_map_top, run_noise_budget
from yoloqat.pipeline.onnx_files import read_quantized
from yoloqat.pipeline.onnx_noise import check_onnx_scan, run_onnx_budget
from yoloqat.pipeline.ptq import Ptq, refuse_settings
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.sensitivity import CHART, IGNORE, STUDY, TABLE, ScanOptions, run_scan
from yoloqat.pipeline.tables import noise_table, ranking_table
from yoloqat.sensitivity.settings import GRANULARITIES, GROUP, MODES, NOISE, ScanConfig

CHECKPOINT = "model.safetensors"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="calibrated .safetensors, an Ultralytics .pt, which is calibrated first, or the model.onnx that calibrate made",
    )
    group = parser.add_argument_group("scan")
    add_field(group, ScanConfig, "mode", "leave one out, switch one on at a time, or the noise alone", choices=MODES)
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
        "--scan-cost", type=float, metavar="F", help="share of the cost of one evaluation per item to spend"
    )
    group.add_argument("--budget", dest="scan_cost", type=float, help=argparse.SUPPRESS)  # the name of 0.1.0
    group.add_argument(
        "--map-top",
        type=int,
        default=0,
        metavar="K",
        help="with --mode noise: measure the mAP drop of the first K items",
    )
    group.add_argument(
        "--max-drop",
        type=float,
        metavar="X",
        help="expected drop of mAP that ignore.txt brings the model within; without labels a share of the float mAP",
    )
    add_field(group, ScanOptions, "top", "items whose order must be sure", metavar="K")
    group.add_argument(
        "--replay-memory",
        type=int,
        default=ScanOptions.memory >> 20,
        metavar="MB",
        help="memory for values that are used again (default: %(default)s)",
    )
    options.add_data(parser)
    options.add_evaluation(parser)
    options.add_fidelity(parser)
    options.add_workers(parser)
    options.add_log(parser)
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
        scan_cost=args.scan_cost,
        workers=args.workers,
        ray=args.ray,
        memory=args.replay_memory << 20,
        top=args.top,
        seed=args.seed,
        fidelity_images=args.fidelity_images,
        max_drop=args.max_drop,
    )
    noise = scan.mode == NOISE
    if onnx_file.is_onnx(args.model):
        return _run_onnx(args, run, scan, settings)
    dataset = options.dataset(args) if noise and options.unlabelled(args) else options.required_dataset(args)
    if args.map_top and not noise:
        raise ConfigError(
            f"map_top is {args.map_top} with mode '{scan.mode}'",
            expected=f"it with mode '{NOISE}' only",
            hint=f"set `mode` to {NOISE}, or leave out `map_top`",
        )
    check_map_top(args.map_top, dataset)  # before the calibration
    if noise and args.scan_cost is not None:
        raise ConfigError(
            f"scan_cost is {args.scan_cost} with mode '{NOISE}'",
            expected="it with a mode that measures mAP",
            hint="set `mode` to another, or leave out `scan_cost`",
        )
    detector = load_detector(args.model)
    config = options.eval_config(args, detector.imgsz)
    checkpoint = _checkpoint(args, detector, config, run)
    if noise or dataset is None:
        images = options.comparison_records(args, dataset)
        results = run_noise_budget(
            checkpoint,
            images,
            config,
            scan=scan,
            options=settings,
            run=run,
            dataset=dataset,
            map_top=args.map_top,
        )
        table, charts = noise_table(args.model.name, results), [BUDGET_CHART]
    else:
        results = run_scan(checkpoint, dataset, config, scan=scan, options=settings, run=run).results
        table, charts = ranking_table(args.model.name, results), [BUDGET_CHART, CHART]
    inputs = {"model": options.model_input(detector), "data": options.dataset_input(dataset)}
    used: dict[str, Any] = {"evaluation": to_dict(config), "scan": to_dict(scan), "options": vars(settings)}
    if checkpoint != args.model:
        used |= {"quantization": to_dict(options.quant_config(args)), "method": args.method}
    files = [STUDY, TABLE, *charts, IGNORE]
    lines = [_next_line(args, detector, run.out / IGNORE)] if results["ignore"] else []
    return Outcome(used, results, inputs, [table], files, lines, notes=[f"ignore.txt: {_listed(results)}"])


def _run_onnx(args: argparse.Namespace, run: Run, scan: ScanConfig, settings: ScanOptions) -> Outcome:
    """Measure the noise budget of a QDQ file that was calibrated from a float ONNX file."""
    model = Path(args.model)
    check_onnx_scan(model, scan, args.map_top)
    refuse_settings(model, options.quant_config(args), MethodSpec.parse(args.method))
    quantized = read_quantized(model)
    config = options.eval_config(args, onnx_file.own_size(quantized.floating.info))
    images = options.comparison_records(
        args, options.dataset(args) if options.unlabelled(args) else options.required_dataset(args)
    )
    results = run_onnx_budget(model, quantized, images, config, scan=scan, options=settings, run=run)
    inputs = {"model": {"path": str(model), "sha256": results["state_hash"], "family": "onnx"}}
    used = {"evaluation": to_dict(config), "scan": to_dict(scan), "options": vars(settings)}
    was = options.quantization_options(quantized.quant) | options.calibration_options(quantized.calibration)
    patterns = [*was.pop("ignore"), f"@{run.out / IGNORE}"]
    heads = ",".join(quantized.outputs) or None
    line = next_line(args, calibrate.COMMAND, quantized.floating.source, ignore=patterns, outputs=heads, **was)
    return Outcome(
        used,
        results,
        inputs,
        [noise_table(model.name, results)],
        [STUDY, TABLE, BUDGET_CHART, IGNORE],
        [line] if results["ignore"] else [],
        notes=[f"ignore.txt: {_listed(results)}"],
    )


def _listed(results: dict[str, Any]) -> str:
    count = len(results["ignore"])
    return f"{count} layer{'' if count == 1 else 's'}, {results['ignore_reason']}"


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
    files=(
        *(f"{study}{end}" for study in (STUDY, MAP_STUDY) for end in ("", "-wal", "-shm")),
        *(TABLE, CHART, BUDGET_CHART, IGNORE, CHECKPOINT),
    ),
    continues=("scan_cost", "workers", "ray", "replay_memory", "map_top", "max_drop"),
)
