"""Anchor-based detectors: YOLOv7, and YOLOv5 as its own repository trains it."""

from yoloqat.detectors.anchor.kinds import FAMILIES
from yoloqat.detectors.anchor.loading import build, detector_from_module, load_anchor
from yoloqat.detectors.anchor.model import AnchorModel, raw_heads
from yoloqat.detectors.anchor.official import is_original

__all__ = [
    "FAMILIES",
    "AnchorModel",
    "build",
    "detector_from_module",
    "is_original",
    "load_anchor",
    "raw_heads",
]
