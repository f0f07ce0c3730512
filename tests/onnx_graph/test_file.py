from __future__ import annotations

import onnx
import pytest
from onnx import helper

from yoloqat.errors import ModelError
from yoloqat.onnx_graph.file import input_shape, load_onnx, quantized_layers


def test_quantized_layers_read_two_dequantized_tensors(tiny):
    assert quantized_layers(tiny()) == ["first", "second"]
    assert quantized_layers(tiny(quantized=False)) == []


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"cannot read '.*none\.onnx' \(No such file"):
        load_onnx(tmp_path / "none.onnx")


@pytest.mark.parametrize("content", [b"this is text, not a model\n", b"\x08"])
def test_file_that_is_no_onnx(tmp_path, content):
    path = tmp_path / "text.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"'.*text\.onnx' is no ONNX file"):
        load_onnx(path)


def test_empty_file(tmp_path):
    path = tmp_path / "empty.onnx"
    path.touch()
    with pytest.raises(ModelError, match=r"'.*empty\.onnx' holds a graph of 0 nodes"):
        load_onnx(path)


def test_input_shape_skips_initialisers(tiny):
    model = tiny()
    model.graph.input.insert(0, helper.make_tensor_value_info("first.bias", onnx.TensorProto.FLOAT, [32]))
    assert input_shape(model) == (1, 3, 16, 16)
