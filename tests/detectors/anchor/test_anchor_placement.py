"""Where the quantizers of the small anchor-based models sit, as golden text.

Written anew with ``pytest tests/detectors/anchor/test_anchor_placement.py --regenerate-golden``; read the difference before
committing.
"""

from __future__ import annotations

from pathlib import Path

import torch

from yoloqat.config import QuantConfig
from yoloqat.detectors import load_detector
from yoloqat.quant import activation_quantizers
from yoloqat.quant.dequantized import DequantizedConv2d
from yoloqat.quant.graph import plan_text

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "placement"


def test_quantizers_sit_where_they_did(request, small_original, family):
    detector = load_detector(small_original)
    detector.quantize(QuantConfig())
    path = GOLDEN / f"small-{family}.txt"
    if request.config.getoption("--regenerate-golden"):
        path.write_text(plan_text(detector.quantization.placement), encoding="utf-8")
    assert plan_text(detector.quantization.placement) == path.read_text(encoding="utf-8")


def test_a_checkpoint_keeps_which_convolutions_read_dequantized_values(small_original, family, tmp_path):
    detector = load_detector(small_original)
    detector.quantize(QuantConfig(target="tensorrt"))
    for _, quantizer in activation_quantizers(detector.module):
        quantizer.amax = 4.0
    detector.save(tmp_path / "model.safetensors")
    again = load_detector(tmp_path / "model.safetensors")
    fed = [name for name, layer in again.module.named_modules() if isinstance(layer, DequantizedConv2d)]
    assert fed == {"yolov5": ["model.9.m.1"], "yolov7": []}[family]
    assert again.quantization.placement == detector.quantization.placement
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(again.module(image), detector.module(image))
