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
def quantized(marked, qparams, metadata):
    return quantize_graph(marked, qparams, metadata=metadata)[0]


def exposed(model, names):
    """Return ``model`` with further tensors as outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {value.name for value in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    return copy


def fed(cuts, whole):
    """Return feeds from the tensors of a whole run, raw and quantized readers alike."""
    return {name: whole[cut.tensor] for cut in cuts for name in (cut.feed, cut.raw) if name is not None}


def test_places_name_tensors_and_layers(quantized):
    model, cuts = cut_at_quantizers(quantized)
    onnx.checker.check_model(model, full_check=True)
    assert [cut.layers for cut in cuts] == [("stem",), ("left", "right"), ("up",), ("fc",), ("last",)]
    assert (cuts[0].tensor, cuts[0].feed, cuts[0].raw) == ("images", "stem/input/QuantizeLinear/fed", "images")
    names = {name for cut in cuts for name in (cut.feed, cut.raw) if name is not None}
    assert {value.name for value in model.graph.input} == names
    assert [value.name for value in model.graph.output] == ["output0", "output1", *(cut.integers for cut in cuts)]


def test_fed_with_its_own_tensors_it_computes_the_same(quantized, example):
    model, cuts = cut_at_quantizers(quantized)
    integers = {cut.integers: cut.integers.removesuffix("/computed") for cut in cuts}
    tensors = [cut.tensor for cut in cuts if cut.tensor != "images"]
    whole = run(exposed(quantized, [*integers.values(), *tensors]), {"images": example.numpy()})
    pieces = run(model, fed(cuts, whole | {"images": example.numpy()}))
    np.testing.assert_array_equal(pieces["output0"], whole["output0"])
    for computed, original in integers.items():
        np.testing.assert_array_equal(pieces[computed], whole[original])


def test_an_error_does_not_reach_the_next_piece(quantized, example):
    model, cuts = cut_at_quantizers(quantized)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    feeds = {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
    before = run(model, feeds)
    after = run(model, feeds | {cuts[0].feed: example.numpy()})
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {cuts[1].integers}


def test_quantized_tensor_that_is_also_an_output_stays_computed(quantized):
    model, cuts = cut_at_quantizers(quantized)
    up = next(cut for cut in cuts if cut.layers == ("up",))
    again, _ = cut_at_quantizers(exposed(quantized, [up.tensor]))
    assert up.tensor in {value.name for value in again.graph.output}
    assert up.tensor not in {value.name for value in again.graph.input}
    assert {v.name for v in model.graph.input} == {v.name for v in again.graph.input}


def test_who_reads_a_tensor_unquantized_is_fed_apart():
    scale = helper.make_tensor("s", onnx.TensorProto.FLOAT, [], [1.0])
    zero = helper.make_tensor("z", onnx.TensorProto.INT8, [], [0])
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["q"], name="Q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Sub", ["d", "r"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], [scale, zero]))
    model.ir_version, model.opset_import[0].version = 10, 19  # what the installed runtime surely takes
    cut_model, (cut,) = cut_at_quantizers(model)
    assert (cut.feed, cut.raw) == ("Q/fed", "r/raw")
    out = run(cut_model, {"x": np.float32([3.4]), "Q/fed": np.float32([7.0]), "r/raw": np.float32([2.25])})
    assert out["y"] == np.float32([4.75])
    assert out[cut.integers] == np.int8([3])


def test_float_graph_is_refused(traced):
    with pytest.raises(ExportError, match="has no QuantizeLinear on an activation"):
        cut_at_quantizers(traced)


def test_integers_of_an_unsigned_quantizer_without_zero_point_are_uint8():
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
