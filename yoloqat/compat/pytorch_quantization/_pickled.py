"""Convert the state of objects pickled with NVIDIA's package to that of this package's classes."""

from __future__ import annotations

from typing import Any

from yoloqat.compat.pytorch_quantization._descriptor import quantizer_scheme


def own_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of our TensorQuantizer for that of NVIDIA's.

    Args:
        state: The ``__dict__`` of NVIDIA's object: its buffers, its switches, and bits, axis and sign one by one.
    """
    kept = dict(state)
    unsigned, narrow_range = kept.pop("_unsigned"), kept.pop("_narrow_range")
    kept["scheme"] = quantizer_scheme(kept["_num_bits"], kept["_axis"], unsigned=unsigned, narrow_range=narrow_range)
    kept["name"] = ""
    kept["_buffers"] = {"_amax": None, "_low": None, **kept["_buffers"]}
    return kept
