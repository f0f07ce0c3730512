from __future__ import annotations

import onnx
import pytest

from yoloqat.engines import LayerPrecision, OpenVINOPredictor, PrecisionMap


def layer(name, precision, macs, kind="Convolution"):
    return LayerPrecision(name, kind, precision, "kernel", macs)


def test_shares_weigh_by_multiply_adds():
    precision = PrecisionMap(
        (
            layer("a", "u8", 600),
            layer("b", "f32", 200),
            layer("c", "i8", 100, "Deconvolution"),
            layer("d", "f32", 100),
            layer("e", "u8", 0, "Concatenation"),
        ),
        frozenset({"a", "b", "c"}),
    )
    assert precision.int8_mac_share == pytest.approx(700 / 900)
    assert precision.int8_mac_share_all == pytest.approx(700 / 1000)
    assert [entry.name for entry in precision.int8_convolutions] == ["a", "c"]
    assert len(precision.quantized_convolutions) == 3
    assert len(precision.convolutions) == 4


def test_no_share_where_nothing_is_quantized():
    assert PrecisionMap((layer("a", "f32", 5),), frozenset()).int8_mac_share is None
    assert PrecisionMap((), frozenset()).int8_mac_share_all is None


def test_layers_keep_their_names_and_macs(float_path, qdq_path):
    macs = {"first": 16 * 16 * 32 * 3 * 9, "second": 16 * 16 * 4 * 32 * 9}
    for path in (float_path, qdq_path):
        found = {entry.name: entry.macs for entry in OpenVINOPredictor(path).precision.convolutions}
        assert found == macs


def test_an_open_batch_counts_as_one_image(tiny, tmp_path):
    onnx.save(tiny(batch="n"), tmp_path / "open.onnx")
    found = {entry.name: entry.macs for entry in OpenVINOPredictor(tmp_path / "open.onnx").precision.convolutions}
    assert found == {"first": 16 * 16 * 32 * 3 * 9, "second": 16 * 16 * 4 * 32 * 9}
