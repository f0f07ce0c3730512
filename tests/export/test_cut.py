from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from yoloqat.errors import ExportError
from yoloqat.export import cut_at_quantizers, quantize_graph


def run(model, feeds, outputs=None):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(outputs, feeds), strict=True))


@pytest.fixture(scope="module")
def quantized(traced, layers, metadata):
    return quantize_graph(traced, layers, metadata=metadata)[0]


def exposed(model, names):
    """Return ``model`` with further tensors as outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    return copy


def test_places_name_tensors_and_layers(quantized):
    model, cuts = cut_at_quantizers(quantized)
    onnx.checker.check_model(model, full_check=True)
    assert [cut.layers for cut in cuts] == [("stem",), ("left", "right"), ("up",), ("fc",), ("last",)]
    assert (cuts[0].tensor, cuts[0].feed, cuts[0].codes) == ("images", "images", None)
    assert [value.name for value in model.graph.input] == list(dict.fromkeys(cut.feed for cut in cuts))
    assert [value.name for value in model.graph.output][:2] == ["output0", "output1"]


def test_fed_with_its_own_tensors_it_computes_the_same(quantized, example):
    model, cuts = cut_at_quantizers(quantized)
    codes = {cut.codes: cut.codes.removesuffix("/computed") for cut in cuts if cut.codes}
    whole = run(exposed(quantized, [*codes.values(), *(c.tensor for c in cuts[1:])]), {"images": example.numpy()})
    feeds = {cut.feed: whole[cut.tensor] for cut in cuts[1:]} | {"images": example.numpy()}
    pieces = run(model, feeds)
    np.testing.assert_array_equal(pieces["output0"], whole["output0"])
    for computed, original in codes.items():
        np.testing.assert_array_equal(pieces[computed], whole[original])


def test_an_error_does_not_reach_the_next_piece(quantized, example):
    model, cuts = cut_at_quantizers(quantized)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    feeds = {cut.feed: np.zeros(shapes[cut.feed], dtype=np.float32) for cut in cuts}
    before = run(model, feeds)
    after = run(model, feeds | {"images": example.numpy()})
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {cuts[1].codes}


def test_quantized_tensor_that_is_also_an_output_stays_computed(quantized):
    model, cuts = cut_at_quantizers(exposed(quantized, []))
    up = next(cut for cut in cuts if cut.layers == ("up",))
    again, _ = cut_at_quantizers(exposed(quantized, [up.tensor]))
    assert up.tensor in {value.name for value in again.graph.output}
    assert up.tensor not in {value.name for value in again.graph.input}
    assert {v.name for v in model.graph.input} == {v.name for v in again.graph.input}


def test_float_graph_is_refused(traced):
    with pytest.raises(ExportError, match="has no QuantizeLinear on an activation"):
        cut_at_quantizers(traced)


def test_codes_of_an_unsigned_quantizer_without_zero_point_are_uint8():
    scale = helper.make_tensor("s", onnx.TensorProto.FLOAT, [], [0.1])
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], [scale]))
    cut, _ = cut_at_quantizers(model)
    assert cut.graph.output[1].type.tensor_type.elem_type == onnx.TensorProto.UINT8
