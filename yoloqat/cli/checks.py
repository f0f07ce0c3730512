"""What numbers and paths of a command line may be, checked before any work begins.

Settings check their own values too, wherever they come from; a command line is checked here as a whole, so that a mistake in
its last option does not wait for what the first ones ask for.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from yoloqat.config.export import OPSETS
from yoloqat.config.scheme import BITS
from yoloqat.config.sizes import GREATEST, LEAST

_MANY, _COUNT, _SIDE = 1_000_000, 10_000_000, (1, GREATEST)

RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "threads": (1, 1024),
        "batch": (1, 1 << 16),
        "imgsz": (LEAST, GREATEST),
        "nms_iou": (0, 1),
        "nms_conf": (0, 1),
        "conf": (0, 1),
        "iou": (0, 1),
        "max_det": (1, 30_000),
        "moved": (0, 1),
        "pictures": (0, 1000),
        "calib_images": (1, _COUNT),
        "fidelity_images": (1, _COUNT),
        "seed": (0, (1 << 32) - 1),
        "sample": (1, _MANY),
        "bits": BITS,
        "switched_bits": BITS,
        "opset": OPSETS,
        "split_above": (0, 1),
        "rounds": (1, _MANY),
        "warmup": (0, _MANY),
        "scan_cost": (0, 1),
        "map_top": (0, _COUNT),
        "max_drop": (0, 1),
        "max_noise": (0, _MANY),
        "max_latency": (0, _MANY),
        "time_limit": (0, _MANY),
        "built": (2, 1000),
        "workers": (1, 1024),
        "top": (1, _COUNT),
        "replay_memory": (1, 1 << 24),
        "epochs": (1, _MANY),
        "patience": (0, _MANY),
        "processes": (1, 1024),
        "task": (0, _MANY),
        "distill": (0, _MANY),
        "features": (0, _MANY),
        "supervise": (1, _MANY),
        "workspace": (0, 1024),
        "opt_level": (0, 5),
        **{f"{end}_batch": (1, 1 << 16) for end in ("min", "opt", "max")},
        **{f"{end}_imgsz": _SIDE for end in ("min", "opt", "max")},
        "dla": (0, 63),
        "gpus": (1, 1024),
        "layers": (0, _COUNT),
    }
)
"""Least and greatest number of each option, by where argparse keeps it, both included; settings may narrow it."""


def out_of_range(actions: Iterable[argparse.Action], args: argparse.Namespace) -> str | None:
    """Return what is wrong with the first number that is out of its range, or None.

    Args:
        actions: Those of the parser, which know the options by the names that the user types.
        args: What was parsed.
    """
    for action in actions:
        low, high = RANGES.get(action.dest, (None, None))
        value = getattr(args, action.dest, None)
        for number in value if isinstance(value, tuple) else (value,):
            if low is None or high is None or number is None or low <= number <= high:
                continue
            kind = "a number" if action.type is float else "a whole number"
            return f"{action.option_strings[-1]} is {number}; expected {kind} from {low} to {high}"
    return None


def unreachable(actions: Iterable[argparse.Action], args: argparse.Namespace) -> str | None:
    """Return what is wrong with the first path that cannot even be looked for, or None.

    Args:
        actions: Those of the parser.
        args: What was parsed.
    """
    for action in actions:
        value = getattr(args, action.dest, None)
        for path in value if isinstance(value, list) else [value]:
            try:
                if isinstance(path, Path):
                    path.exists()
            except OSError as error:
                name = action.option_strings[-1] if action.option_strings else action.metavar
                return (
                    f"{name} is '{path!s:.120}', which cannot be reached ({error.strerror}); expected a possible path"
                )
    return None
