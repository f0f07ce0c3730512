from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import SIZE, Graph
from PIL import Image

from yoloqat.config import CalibrationConfig, MethodSpec, QuantConfig
from yoloqat.datasets import ImageRecord
from yoloqat.errors import CalibrationError
from yoloqat.onnx_quant.collect import collect_histograms
from yoloqat.onnx_quant.float_graph import float_graph
from yoloqat.onnx_quant.placement import place
from yoloqat.onnx_quant.quantize import find_qparams
from yoloqat.predictor import ModelInfo
from yoloqat.quant.calib import Histogram

INFO = ModelInfo(names={0: "a"}, imgsz=(SIZE, SIZE), batch=2)


def chain(between: str) -> onnx.ModelProto:
    """Return two layers with an operator between them, and a head."""
    g = Graph()
    hidden = g.add(between, "between", g.conv("first", "images", (3, 4)))
    g.conv("last", g.conv("second", hidden, (4, 4)), (4, 4))
    return float_graph(g.model({"last_out": (2, 4, SIZE, SIZE)}, fed=(2, 3, SIZE, SIZE)), "chain.onnx")


@pytest.fixture
def collected(tmp_path: Path) -> Callable[[str], dict[str, Histogram]]:
    path = tmp_path / "image.png"
    Image.fromarray(np.full((SIZE, SIZE, 3), 255, np.uint8)).save(path)
    records = [ImageRecord(path, number, SIZE, SIZE) for number in range(1, 4)]

    def collect(between: str) -> dict[str, Histogram]:
        model = chain(between)
        config = CalibrationConfig(images=3)
        return collect_histograms(
            model, place(model, QuantConfig()), records, info=INFO, config=config, imgsz=SIZE, batch=8, threads=1
        )

    return collect


def test_each_image_counts_once_and_what_fills_a_batch_does_not(collected) -> None:
    found = collected("Relu")
    images = found["first._input_quantizer"]
    assert (images.counts.sum(), images.low, images.high) == (3 * 3 * SIZE * SIZE, 1.0, 1.0)
    hidden = found["second._input_quantizer"]
    assert hidden.counts.sum() == 3 * 4 * SIZE * SIZE
    assert 0.0 <= hidden.low < hidden.high


def test_a_tensor_that_is_not_finite_is_named(collected) -> None:
    with pytest.raises(CalibrationError, match="tensor 'between_out': a tensor to calibrate on holds NaN"):
        collected("Sqrt")


def test_a_scale_without_a_histogram_is_named() -> None:
    model = chain("Relu")
    with pytest.raises(CalibrationError, match=r"quantizer 'first._input_quantizer' collected nothing"):
        find_qparams(model, place(model, QuantConfig()), {}, QuantConfig(), MethodSpec("max"))
