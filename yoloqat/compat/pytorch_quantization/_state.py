"""Global state of NVIDIA's interface, kept in one place so that it can be undone."""

from __future__ import annotations

import logging

from yoloqat.compat.patches import Patches

TORCH_NN = Patches()
"""Layers of ``torch.nn`` (or of modules a script names) that `initialize` replaced."""

HELPERS: list[Patches] = []
"""Replacements of each QuantModuleReplacementHelper, in the order of creation."""

DEFAULTS = Patches()
"""Default descriptors that ``set_default_quant_desc_input`` and ``set_default_quant_desc_weight`` put on classes."""

LOG = logging.getLogger("pytorch_quantization")
