"""`calibrate` and `sensitivity` of a float ONNX file: what they take of a command line, and what they show."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yoloqat.cli import build, options
from yoloqat.cli.command import Outcome
from yoloqat.cli.next_line import next_line
from yoloqat.config import MethodSpec, to_dict
from yoloqat.config.sizes import ImageSize, checked_imgsz
from yoloqat.errors import ConfigError
from yoloqat.pipeline.onnx_calibrate import calibrate_onnx
from yoloqat.pipeline.onnx_files import FLOAT, QDQ, open_float_file
from yoloqat.pipeline.recipe import check_images, check_onnx
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.tables import scores_table
from yoloqat.predictor import ModelInfo
from yoloqat.provenance import file_sha256
from yoloqat.results import Table, counted

SUFFIX = ".onnx"
_CALIBRATE = dict.fromkeys(("curve", "backend", "refine", "histograms")) | {"calib_select": "range"}
"""Options that need a torch model, with the one value that does where others do not."""


def is_onnx(path: Path) -> bool:
    """Return whether a model is an ONNX file by its name."""
    return path.suffix.lower() == SUFFIX


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """Add ``--outputs``."""
    parser.add_argument(
        "--outputs",
        metavar="NAME,...",
        help="of a float .onnx: tensors or nodes at which the heads end (default: found from the file's outputs)",
    )


def outputs_of(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the tensors or nodes that ``--outputs`` names.

    Raises:
        ConfigError: The model is no ONNX file, or a name is empty.
    """
    if args.outputs is None:
        return ()
    named = tuple(name.strip() for name in args.outputs.split(","))
    if not is_onnx(args.model):
        raise ConfigError(
            f"outputs is '{args.outputs}' with '{args.model}'",
            expected=f"it with a float {SUFFIX} file: a .pt tells its heads",
            hint="leave `outputs` out",
        )
    if not all(named):
        raise ConfigError(
            f"outputs is '{args.outputs}', in which a name is empty",
            expected="names of tensors or nodes, joined by commas",
            hint="leave `outputs` out to have the heads found",
        )
    return named


def refuse_torch_options(args: argparse.Namespace, names: Mapping[str, Any] = _CALIBRATE) -> None:
    """Check that no option was given that needs a torch model.

    Args:
        args: As parsed.
        names: The options by name, with the value that needs it, or None for any but the default.

    Raises:
        ConfigError: One was.
    """
    for name, unfit in names.items():
        value = getattr(args, name)
        if value == unfit if unfit is not None else value != args.parser.get_default(name):
            raise ConfigError(
                f"{name} is '{value}' with '{args.model}'",
                expected="it with a torch model only",
                hint=f"leave `{name}` out, or pass the .pt",
            )


def own_size(info: ModelInfo) -> ImageSize:
    """Return the image size that a file is fixed to, else 640."""
    return checked_imgsz(info.imgsz, low=1) if info.imgsz else 640


def run_calibrate(args: argparse.Namespace, run: Run) -> Outcome:
    """Run ``calibrate`` on a float ONNX file.

    Raises:
        YoloqatError: The file, the data or an option does not fit.
    """
    refuse_torch_options(args)
    recipe = options.take_recipe(args)
    outputs, method = outputs_of(args), MethodSpec.parse(args.method)
    quant = options.quant_config(args) if recipe is None else recipe.quantization
    calibration = options.calibration_config(args, method) if recipe is None else recipe.calibration
    dataset = None if args.no_eval else options.dataset(args)
    floating = open_float_file(
        args.model, imgsz=args.imgsz, names=None if dataset is None else dataset.names, target=args.target
    )
    config = options.eval_config(args, own_size(floating.info))
    records = options.calibration_records(args)
    if recipe is not None:
        check_onnx(recipe, args.model)
        check_images(recipe, records)
    compared = () if args.no_eval else options.offered_records(args, dataset)
    results = calibrate_onnx(
        floating,
        records,
        config,
        quant=quant,
        calibration=calibration,
        run=run,
        outputs=outputs,
        float_layers=() if recipe is None else recipe.float_layers,
        dataset=dataset,
        compared=compared,
    )
    title = f"{args.model.name}, {counted(results['quantized_layers'], 'layer')} quantized by {method}"
    tables: list[Table] = [scores_table(title, results)] if compared else []
    settings = {"evaluation": to_dict(config), "quantization": to_dict(quant), "calibration": to_dict(calibration)}
    model = {"path": str(args.model), "sha256": file_sha256(args.model), "family": "onnx"}
    inputs = {"model": model, "data": options.dataset_input(dataset)}
    lines = [next_line(args, build.COMMAND, run.out / QDQ, without=("batch",))]
    return Outcome(
        {**settings, "refine": [], "outputs": list(outputs)},
        results,
        inputs,
        tables,
        [QDQ, FLOAT],
        lines,
        notes=results["notes"],
    )
