"""Choose the layers to leave float within a drop, a noise or a latency, along the whole frontier.

Every layer alone makes a noise that the noise budget knows, and costs milliseconds that are measured on the engine: in INT8, in
floating point, and for the conversions between the two. An integer program finds, for each latency, the set of float layers of
least noise; layers whose inputs share a scale go together. A handful of these sets is built and measured, predicted beside
measured, and the one that keeps to --max-drop, --max-noise or --max-latency is chosen on one half of the images and confirmed on
the other. Labels are needed for its mAP alone. Writes recipe.yaml, which calibrate, finetune and export take and which makes the
same engine again, frontier.png and latency.json, the latency table. Where no set keeps to the goal the nearest is written and
the command ends with code 1. An interrupted search goes on when the same line is run again.

For the target tensorrt, which is not timed here, latencies are estimated, or predicted from what trtexec wrote of two engines on
your GPU: --int8-profile and --float-profile (docs/tensorrt.md).

A model.onnx that calibrate made of a float .onnx is searched too, against the float.onnx beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from yoloqat.cli import calibrate, options
from yoloqat.cli.build import add_vnni
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.fields import add_field
from yoloqat.cli.folder import read_result
from yoloqat.cli.next_line import next_line
from yoloqat.cli.profiles import add_profiles
from yoloqat.config import to_dict
from yoloqat.config.recipe import NAME
from yoloqat.errors import ConfigError
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.search import BUDGET, open_searched, run_search
from yoloqat.pipeline.search_engines import TABLE
from yoloqat.pipeline.search_table import CHART, draw, search_table
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.searching.profiles import ProfileFiles
from yoloqat.searching.settings import SearchConfig


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="what `yoloqat calibrate` wrote: a .safetensors, or the model.onnx of a float .onnx",
    )
    group = parser.add_argument_group("goal, one of the three")
    group.add_argument(
        "--max-drop", type=float, metavar="X", help="expected drop of mAP; without labels a share of the float mAP"
    )
    group.add_argument("--max-noise", type=float, metavar="D", help="noise d of the engine against the float model")
    group.add_argument("--max-latency", type=float, metavar="MS", help="milliseconds of one image")
    group = parser.add_argument_group("search")
    group.add_argument(
        "--budget",
        type=Path,
        metavar="DIR",
        help="results of `yoloqat sensitivity --mode noise` on the model (default: measured here)",
    )
    add_field(group, SearchConfig, "built", "sets of the frontier to build and measure")
    add_field(group, SearchConfig, "rounds", "timed forwards of each engine")
    add_vnni(group, SearchConfig)
    add_profiles(parser)
    options.add_data(parser)
    options.add_evaluation(parser)
    options.add_fidelity(parser)
    options.add_workers(parser)


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    profiles = ProfileFiles.of(args.int8_profile, args.float_profile)
    search = SearchConfig(args.max_drop, args.max_noise, args.max_latency, args.built, args.rounds, args.vnni)
    budget = None if args.budget is None else _budget(args.budget)
    dataset = options.dataset(args) if options.unlabelled(args) else options.required_dataset(args)
    model = open_searched(args.model, run)
    config = options.eval_config(args, model.imgsz)
    with run.pooled(args.workers, args.ray) as run:
        found = run_search(
            model,
            options.comparison_records(args, dataset),
            config,
            search=search,
            run=run,
            options=ScanOptions(fidelity_images=args.fidelity_images),
            budget=budget,
            dataset=dataset,
            profiles=profiles,
        )
    found.recipe.save(run.out / NAME)
    draw(found, run.out)
    name, value = search.goal
    predicted = ", by the latency that the profiles predict" if profiles and search.max_latency else ""
    told = f"no float set keeps to --{name.replace('_', '-')} {value:g}{predicted}; the nearest is in {NAME}"
    failed = None if found.met else told
    inputs = {"model": {**model.source, "family": model.family}, "data": options.dataset_input(dataset)}
    inputs |= {} if profiles is None else {"profiles": profiles.to_dict()}
    used: dict[str, Any] = {"evaluation": to_dict(config), "search": vars(search)}
    recipe = ("--recipe", run.out / NAME)
    lines = [next_line(args, calibrate.COMMAND, model.source["path"], *recipe, without=("imgsz", "batch"))]
    return Outcome(used, found.results, inputs, [search_table(found)], [NAME, CHART, TABLE], lines, failed)


def _budget(folder: Path) -> dict[str, Any]:
    hint = "name the directory of `yoloqat sensitivity --mode noise`"
    found = read_result(folder, hint)
    results = found.get("results")
    if found["command"] != "sensitivity" or not isinstance(results, dict):
        raise ConfigError(
            f"'{folder}' holds results of `yoloqat {found['command']}`",
            expected="those of `yoloqat sensitivity`",
            hint=hint,
        )
    return dict(results)


COMMAND = Command(
    "search",
    __doc__ or "",
    _arguments,
    _run,
    files=(NAME, CHART, TABLE, BUDGET),
    continues=("built", "rounds", "workers", "ray"),
)
