"""The arguments that name what trtexec wrote of a model's engines."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_profiles(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the profiles of two engines."""
    group = parser.add_argument_group("profiles of TensorRT, both or neither (target tensorrt)")
    for name, engine in (("int8", "with every layer in INT8"), ("float", "of the float model, in FP16")):
        group.add_argument(
            f"--{name}-profile",
            type=Path,
            nargs="+",
            default=[],
            metavar="FILE",
            help=f"trtexec's --exportProfile and --exportLayerInfo, or its verbose log, of the engine {engine}",
        )
