"""What NVIDIA's interface makes global, kept in one place so that it can be taken back."""

from __future__ import annotations

import logging

from yoloqat.compat.patches import Patches

TORCH_NN = Patches()
"""Layers of ``torch.nn`` (or of modules a script names) that `initialize` replaced."""

HELPERS: list[Patches] = []
"""What each QuantModuleReplacementHelper replaced, in the order in which they were made."""

DEFAULTS = Patches()
"""Default descriptors that ``set_default_quant_desc_input`` and ``set_default_quant_desc_weight`` put on classes."""

LOG = logging.getLogger("pytorch_quantization")
