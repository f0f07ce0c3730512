"""The blocks of each family that have quantizers inside their forward."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from yoloqat.quant import QuantBlock


def block_forms(family: str) -> Mapping[type[nn.Module], type[QuantBlock]]:
    """Return which blocks of a family have a form with quantizers; none where the family is unknown."""
    if family == "ultralytics":
        from yoloqat.detectors.ultralytics_quant_blocks import FORMS  # imports Ultralytics

        return FORMS
    if family in ("yolov5", "yolov7"):
        from yoloqat.detectors.anchor.quant_blocks import (
            FORMS as ANCHOR_FORMS,  # whose package imports detectors itself
        )

        return ANCHOR_FORMS
    return {}
