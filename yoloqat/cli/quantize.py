"""Take a .pt or a float .onnx to the fastest INT8 engine within a loss that you allow.

Scores the float model, compares calibration methods by their noise, refines the best, builds the engine and measures it. Where
the loss is more than --max-drop (or, without labels, the noise more than --max-noise) the noise budget says which layers to
leave in floating point; where that is not enough, fine-tuning follows. One half of the images chooses, the other confirms. The
verdict is `met`, `not told apart` (the interval spans the limit) or `exceeded`, which ends with code 1. Each decision is told
with its reason. An interrupted run goes on where it stopped when the same line is run again. Writes DIR/model.safetensors,
DIR/model.onnx, the engine, and DIR/recipe.yaml, which calibrate, finetune and export take.

A float .onnx goes the same way without refinement and fine-tuning, which need the .pt: DIR/model.onnx is its QDQ file,
DIR/float.onnx the float file that it is compared with.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from yoloqat.cli import calibrate, diff, onnx_file, options
from yoloqat.cli.build import add_vnni
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.fields import add_field, default_of
from yoloqat.cli.next_line import next_line
from yoloqat.cli.profiles import add_profiles
from yoloqat.config import to_dict
from yoloqat.config.recipe import NAME
from yoloqat.pipeline.engine import ENGINE, OPENVINO, ORT_MODEL
from yoloqat.pipeline.float_model import CHECKPOINT, ONNX
from yoloqat.pipeline.onnx_files import FLOAT
from yoloqat.pipeline.quantize import open_float_model, quantize
from yoloqat.pipeline.quantize_config import MAX_DROP, QuantizeConfig
from yoloqat.pipeline.refine_steps import steps_of
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.search_engines import TABLE
from yoloqat.pipeline.tables import quantize_tables


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="float .pt, or a float .onnx")
    group = parser.add_argument_group("what is wanted")
    group.add_argument(
        "--max-drop", type=float, metavar="X", help=f"largest loss of mAP50-95 (default: {MAX_DROP}, with labels)"
    )
    group.add_argument("--max-noise", type=float, metavar="D", help="largest noise d; needs no labels")
    group.add_argument("--max-latency", type=float, metavar="MS", help="milliseconds of one image that it may take")
    group.add_argument("--time-limit", type=float, metavar="MIN", help="minutes after which no further stage begins")
    add_field(group, QuantizeConfig, "epochs", "of the fine-tuning where nothing else is enough")
    group.add_argument("--no-finetune", action="store_true", help="do not fine-tune, whatever the loss")
    calibrate.add_refine(group, "what is won back without training", ",".join(default_of(QuantizeConfig, "refine")))
    add_vnni(group, QuantizeConfig)
    onnx_file.add_outputs(parser)
    add_profiles(parser)
    options.add_data(parser)
    options.add_evaluation(parser)
    options.add_fidelity(parser)
    options.add_workers(parser)
    options.add_calibration(parser)
    options.add_quantization(parser)
    options.add_log(parser)


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    labelled = not options.unlabelled(args)
    dataset = options.required_dataset(args) if labelled else None
    max_drop = MAX_DROP if labelled and args.max_drop is None and args.max_noise is None else args.max_drop
    config = QuantizeConfig(
        max_drop=max_drop,
        max_noise=args.max_noise,
        max_latency=args.max_latency,
        time_limit=args.time_limit,
        quant=options.quant_config(args),
        calibration=options.calibration_config(args),
        epochs=args.epochs,
        finetune=not args.no_finetune,
        refine=steps_of(args.refine),
        vnni=args.vnni,
        int8_profile=tuple(map(str, args.int8_profile)),
        float_profile=tuple(map(str, args.float_profile)),
    )
    model = open_float_model(
        args.model,
        run.out,
        imgsz=args.imgsz,
        names=None if dataset is None else dataset.names,
        target=args.target,
        outputs=onnx_file.outputs_of(args),
    )
    scoring = options.eval_config(args, model.imgsz)
    compared = options.comparison_records(args, dataset)
    records = options.calibration_records(args)
    with run.pooled(args.workers, args.ray) as run:
        found = quantize(
            model,
            records,
            config,
            scoring=scoring,
            run=run,
            dataset=dataset,
            compared=compared,
            training=(lambda: options.training_records(args)) if config.finetune else None,
        )
    settings: dict[str, Any] = {"evaluation": to_dict(scoring), "quantize": to_dict(config)}
    inputs = {"model": {**model.source, "family": model.family}, "data": options.dataset_input(dataset)}
    inputs |= {} if config.profiles is None else {"profiles": config.profiles.to_dict()}
    lines = [next_line(args, diff.COMMAND, model.path, run.out / found.engine, without=("batch",))]
    results = found.results | {"notes": list(model.notes)}
    tables = quantize_tables(args.model.name, found.results)
    return Outcome(settings, results, inputs, tables, found.files, lines, found.failed, notes=model.notes)


COMMAND = Command(
    "quantize",
    __doc__ or "",
    _arguments,
    _run,
    files=(CHECKPOINT, ONNX, FLOAT, OPENVINO, ORT_MODEL, ENGINE, NAME, TABLE),
    continues=("workers", "ray"),
)
