"""Errors in the words of the command line: where they name parameters of the Python API, it names its options."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import MappingProxyType

from yoloqat.cli.fields import option_name
from yoloqat.errors import YoloqatError

RENAMED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "activations": ("affine",),
        "weights": ("per_tensor_weights",),
        "count": ("calib_images",),
        "calibration_images": ("calib_images_dir",),
        "skipped": ("skip_bad_images",),
        "floating": ("float",),
        "groups": ("group",),
        "must_resume": ("resume",),
        "workspace_gib": ("workspace",),
        "optimization_level": ("opt_level",),
        "Dataset.calibration_source": ("train_images_dir",),
        "ScanConfig.bits": ("switched_bits",),
        "SupervisionConfig.rates": ("lr0",),
        "SupervisionConfig.stride": ("supervise",),
        **{f"TensorRTOptions.{of}": tuple(f"{end}_{of}" for end in ("min", "opt", "max")) for of in ("batch", "imgsz")},
    }
)
"""Parameters that an option sets whose name among the parsed arguments is another."""


def option_of(parameter: str, parser: argparse.ArgumentParser) -> str:
    """Return the option, or the several, that set a parameter.

    Args:
        parameter: Its name, as :data:`yoloqat.errors.PARAMETER` finds it.
        parser: Of the command that was typed; what it does not have is an option of another command, called as the parameter.
    """
    own = {action.dest: option_name(action) for action in parser._actions if action.option_strings}
    names = RENAMED.get(parameter, (parameter.rpartition(".")[2],))
    *first, last = (own.get(name, f"--{name.replace('_', '-')}") for name in names)
    return f"{', '.join(first)} and {last}" if first else last


def worded(error: YoloqatError, parser: argparse.ArgumentParser) -> str:
    """Return the message of an error as the user of a command reads it."""
    return error.told(lambda parameter: option_of(parameter, parser))
