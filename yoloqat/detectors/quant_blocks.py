"""The blocks of each family that have quantizers inside their forward."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from yoloqat.quant import QuantBlock


def block_forms(family: str) -> Mapping[type[nn.Module], type[QuantBlock]]:
    """Map each block type of a family to its type with quantizers; empty for an unknown family."""
    if family == "ultralytics":
        from yoloqat.detectors.ultralytics_quant_blocks import FORMS  # imports Ultralytics

        return FORMS
    if family in ("yolov5", "yolov7"):
        from yoloqat.detectors.anchor.quant_blocks import (
            FORMS as ANCHOR_FORMS,  # whose package imports detectors itself
        )

        return ANCHOR_FORMS
    return {}
