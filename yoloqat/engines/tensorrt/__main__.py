"""Build a TensorRT engine without torch: `python -m yoloqat.engines.tensorrt model.onnx --out DIR`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from yoloqat.engines.tensorrt.arguments import add_arguments, options_from
from yoloqat.engines.tensorrt.build import build_tensorrt
from yoloqat.engines.tensorrt.report import engine_results
from yoloqat.errors import YoloqatError
from yoloqat.provenance import write_json


def main(argv: Sequence[str] | None = None) -> int:
    """Write DIR/model.engine and DIR/layers.json, and return the exit code.

    Args:
        argv: Arguments after the program's name; None takes the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m yoloqat.engines.tensorrt", description=__doc__)
    parser.add_argument("model", type=Path, metavar="ONNX", help="QDQ or float ONNX file")
    parser.add_argument("--out", type=Path, default=Path("runs/build"), metavar="DIR", help="default: %(default)s")
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        build = build_tensorrt(args.model, args.out / "model.engine", options_from(args, args.out))
        results = engine_results(build)
        write_json(args.out / "layers.json", results)
    except YoloqatError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return error.exit_code
    counts = f"{results['int8_convolutions']} of {results['convolutions']} convolutions in INT8"
    sys.stdout.write(f"wrote {args.out / 'model.engine'}: {counts}, {len(build.layers.reformats)} reformats\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
