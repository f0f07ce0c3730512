"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_dir() -> Path:
    """The directory with official weights and COCO images; the test is skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "real"
    path = Path(os.environ.get("YOLOQAT_REAL", default))
    if not (path / "coco" / "coco_val.yaml").is_file():
        pytest.skip(f"no real weights and images at {path}; set YOLOQAT_REAL to their directory")
    return path
