"""Whole models pickled with NVIDIA's package: the state of its objects told in ours."""

from __future__ import annotations

from typing import Any

from yoloqat.compat.pytorch_quantization.calib.max import single_axis
from yoloqat.config import QuantScheme


def own_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of our TensorQuantizer for that of NVIDIA's.

    Args:
        state: What NVIDIA's object had in ``__dict__``: its buffers, its switches, and bits, axis and sign one by one.
    """
    kept = dict(state)
    unsigned = bool(kept.pop("_unsigned"))
    kept["scheme"] = QuantScheme(
        bits=kept.pop("_num_bits"),
        axis=single_axis(kept.pop("_axis")),
        unsigned=unsigned,
        narrow_range=bool(kept.pop("_narrow_range")) and not unsigned,
    )
    kept["name"] = ""
    kept["_buffers"] = {"_amax": None, "_low": None, **kept["_buffers"]}
    return kept
