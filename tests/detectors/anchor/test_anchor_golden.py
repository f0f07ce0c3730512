"""YOLOv7 against outputs that its original code wrote for checkpoints that it wrote too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from yoloqat.detectors import load_detector
from yoloqat.detectors.anchor import AnchorModel, raw_heads
from yoloqat.detectors.anchor.loading import original_model
from yoloqat.detectors.anchor.official import read_original

CASES = {"yolov7-tiny-w050": 58, "yolov7-w025": 92, "yolov7x-w0125": 108}
"""Checkpoint and its convolutions once folded."""


@pytest.fixture(params=sorted(CASES))
def name(request):
    return request.param


@pytest.fixture
def golden(golden_dir: Path, name: str) -> dict[str, torch.Tensor]:
    with np.load(golden_dir / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def check(model: AnchorModel, golden: dict[str, torch.Tensor], output: str) -> None:
    with torch.inference_mode():
        found, levels = model(golden["input"]), raw_heads(model, golden["input"])
    expected = golden[output]
    joined = torch.cat((expected[..., :4], expected[..., 4:5] * expected[..., 5:]), 2).mT
    torch.testing.assert_close(found, joined, rtol=1e-4, atol=1e-7)
    for index, level in enumerate(levels):
        # a logit near zero is a difference of large numbers: what counts is its error beside that of its neighbours
        torch.testing.assert_close(level, golden[f"raw{index}"], rtol=1e-4, atol=1e-5)


def test_the_unfolded_model_equals_the_original(golden_dir, name, golden):
    model = original_model(read_original(golden_dir / f"{name}.pt"), name)[0]
    check(model.eval(), golden, "output")


def test_the_folded_model_equals_the_original(golden_dir, name, golden):
    detector = load_detector(golden_dir / f"{name}.pt")
    assert (detector.family, detector.info.stride, detector.info.classes) == ("yolov7", 32, 80)
    assert isinstance(detector.module, AnchorModel)
    check(detector.module, golden, "output_fused")
    convolutions = [layer for layer in detector.module.modules() if type(layer) is torch.nn.Conv2d]
    assert len(convolutions) == CASES[name]
