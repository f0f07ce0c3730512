"""Build a TensorRT engine without torch: `python -m yoloqat.cli.tensorrt model.onnx --out DIR`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from yoloqat.cli.wording import worded
from yoloqat.engines.tensorrt.build import build_tensorrt
from yoloqat.engines.tensorrt.options import LEVELS, Span, TensorRTOptions
from yoloqat.engines.tensorrt.report import engine_results
from yoloqat.errors import YoloqatError
from yoloqat.provenance import write_json
from yoloqat.results import counted

TIMING_CACHE = "timing.cache"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the settings of a TensorRT build."""
    group = parser.add_argument_group("--engine tensorrt")
    group.add_argument("--workspace", type=float, metavar="GIB", help="memory for tactics (default: all of the GPU's)")
    group.add_argument(
        "--opt-level", type=int, default=3, metavar="N", help=f"search of {LEVELS[0]} to {LEVELS[1]} (default: 3)"
    )
    for what, unit in (("batch", "batch size"), ("imgsz", "side in pixels")):
        for end, word in (("min", "least"), ("opt", "usual"), ("max", "greatest")):
            text = f"{word} {unit}, where the file leaves it open"
            group.add_argument(f"--{end}-{what}", type=int, metavar="N", help=text)
    group.add_argument(
        "--timing-cache",
        type=Path,
        metavar="FILE",
        help=f"measured tactics to reuse (default: {TIMING_CACHE} in --out)",
    )
    group.add_argument("--dla", type=int, metavar="N", help="run on this deep learning accelerator what it can")
    group.add_argument(
        "--version-compatible", action="store_true", help="let later versions of TensorRT run the engine"
    )
    group.add_argument("--hardware-compatible", action="store_true", help="let any GPU from Ampere on run the engine")


def options_from(args: argparse.Namespace, out: Path) -> TensorRTOptions:
    """Return the settings.

    Args:
        args: What the user typed.
        out: Directory of the results, where the timing cache is kept if no file is named.

    Raises:
        ConfigError: A value is out of range.
    """
    return TensorRTOptions(
        workspace_gib=args.workspace,
        optimization_level=args.opt_level,
        batch=_span(args.min_batch, args.opt_batch, args.max_batch, least=1),
        imgsz=_span(args.min_imgsz, args.opt_imgsz, args.max_imgsz, least=None),
        timing_cache=args.timing_cache or out / TIMING_CACHE,
        dla=args.dla,
        version_compatible=args.version_compatible,
        hardware_compatible=args.hardware_compatible,
    )


def _span(low: int | None, usual: int | None, high: int | None, *, least: int | None) -> Span | None:
    """Return a span whose unnamed ends follow from the named ones; None where nothing is named."""
    named = [value for value in (usual, high, low) if value is not None]
    if not named:
        return None
    middle = named[0]
    lowest = next(value for value in (low, least, middle) if value is not None)
    return Span(lowest, middle, middle if high is None else high)


def main(argv: Sequence[str] | None = None) -> int:
    """Write DIR/model.engine and DIR/layers.json, and return the exit code.

    Args:
        argv: Arguments after the program's name; None takes the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m yoloqat.cli.tensorrt", description=__doc__)
    parser.add_argument("model", type=Path, metavar="ONNX", help="QDQ or float ONNX file")
    parser.add_argument("--out", type=Path, default=Path("runs/build"), metavar="DIR", help="default: %(default)s")
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        build = build_tensorrt(args.model, args.out / "model.engine", options_from(args, args.out))
        results = engine_results(build)
        write_json(args.out / "layers.json", results)
    except YoloqatError as error:
        sys.stderr.write(f"{parser.prog}: {worded(error, parser)}\n")
        return error.exit_code
    counts = f"{results['int8_convolutions']} of {results['convolutions']} convolutions in INT8"
    sys.stdout.write(
        f"wrote {args.out / 'model.engine'}: {counts}, {counted(len(build.layers.reformats), 'reformat')}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
