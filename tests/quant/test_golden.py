"""Amax and fake quant as pytorch-quantization computes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from yoloqat.config import QuantScheme
from yoloqat.quant.calib import amax_entropy, amax_mse, amax_percentile
from yoloqat.quant.functional import fake_quant

FIGURES = json.loads(
    (Path(__file__).resolve().parents[1] / "golden" / "nvidia_pytorch_quantization.json").read_text(encoding="utf-8")
)
SEARCHES = {"entropy": amax_entropy, "mse": amax_mse}


@pytest.mark.parametrize("case", FIGURES["calibration"], ids=lambda case: case["name"])
def test_amax_on_nvidias_histograms(case: dict[str, Any], golden):
    counts, edges = golden.arrays[f"{case['name']}/hist"], golden.arrays[f"{case['name']}/edges"]
    before = counts.copy()
    found, expected = {}, {}
    for key, amax in case["amax"].items():
        if key.startswith("percentile="):
            found[key] = amax_percentile(counts, edges, percentile=float(key.removeprefix("percentile=")))
        elif key != "max":
            method, stride, start = re.fullmatch(r"(\w+)/stride=(\d+)/start_bin=(\d+)", key).groups()
            found[key] = SEARCHES[method](
                counts, edges, unsigned=case["name"] == "relu", stride=int(stride), start_bin=int(start)
            )
        else:
            continue
        expected[key] = amax
    assert len(found) >= 7
    assert found == pytest.approx(expected, rel=1e-5, abs=0.0)
    assert (counts == before).all(), "a search changed the histogram"


@pytest.mark.parametrize("case", FIGURES["fake_quant"], ids=lambda case: case["name"])
def test_fake_quant_and_its_gradient_are_nvidias(case: dict[str, Any], golden):
    scheme = QuantScheme(bits=case["num_bits"], unsigned=case["unsigned"], narrow_range=case["narrow_range"])
    x, amax, y, grad = (torch.tensor(golden.arrays[f"{case['name']}/{key}"]) for key in ("x", "amax", "y", "grad"))
    x.requires_grad_()
    result = fake_quant(x, amax, scheme)
    result.sum().backward()
    assert torch.equal(result, y)
    assert torch.equal(x.grad, grad)
