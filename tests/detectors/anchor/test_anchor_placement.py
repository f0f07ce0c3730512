"""Where the quantizers of the small anchor-based models sit, as golden text.

Written anew with ``pytest tests/detectors/anchor/test_anchor_placement.py --regenerate-golden``; read the difference before
committing.
"""

from __future__ import annotations

from pathlib import Path

from yoloqat.config import QuantConfig
from yoloqat.detectors import load_detector
from yoloqat.quant.graph import plan_text

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "placement"


def test_quantizers_sit_where_they_did(request, small_original, family):
    detector = load_detector(small_original)
    detector.quantize(QuantConfig())
    path = GOLDEN / f"small-{family}.txt"
    if request.config.getoption("--regenerate-golden"):
        path.write_text(plan_text(detector.quantization.placement), encoding="utf-8")
    assert plan_text(detector.quantization.placement) == path.read_text(encoding="utf-8")
