from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from qdq_graphs import Builder, detector

from yoloqat.linting import TENSORRT_11, Severity


def test_malformed_graphs_are_errors_with_the_tensor(found) -> None:
    model = detector()
    assert found("malformed-graph", model) == []
    model.graph.node[4].input[0] = "nowhere"
    name = model.graph.node[4].name
    [finding] = found("malformed-graph", model)
    assert (finding.severity, finding.nodes) == (Severity.ERROR, (name,))
    assert finding.message == f"tensors are read that nothing makes: '{name}' reads 'nowhere'"


def test_nodes_out_of_order_doubled_tensors_and_missing_outputs_are_malformed(found) -> None:
    nodes = [
        helper.make_node("Relu", ["b"], ["c"], name="late"),
        helper.make_node("Relu", ["images"], ["b"], name="first"),
        helper.make_node("Relu", ["images"], ["b"], name="again"),
    ]
    build = Builder()
    build.nodes = nodes
    messages = [finding.message for finding in found("malformed-graph", build.model(["c", "lost"]))]
    assert messages == [
        "nodes stand before what they read: 'late' reads 'b'",
        "tensors are made twice: 'again' makes 'b' again",
        "nothing makes the output 'lost'",
    ]


def test_outputs_and_inputs_that_are_left_out_are_no_fault(found) -> None:
    build = Builder()
    build.nodes = [helper.make_node("Own", ["images", "", ""], ["a", "", ""], name=name) for name in ("one", "two")]
    build.nodes[1].output[0] = "b"
    assert found("malformed-graph", build.model(["a", "b"])) == []


@pytest.mark.parametrize("opset", [13, 19, 24])
def test_opsets_that_the_parser_reads(found, opset: int) -> None:
    build = Builder()
    assert found("opset", build.model(build.predictions(build.layer("images", "a", (3, 16))), opset=opset)) == []


def test_an_opset_beyond_the_parser_is_an_error(found) -> None:
    build = Builder()
    model = build.model(build.predictions(build.layer("images", "a", (3, 16))), opset=25)
    [finding] = found("opset", model)
    assert finding.message == "opset is 25; TensorRT 10 reads 9 to 24"
    assert found("opset", model, trt_version=TENSORRT_11) == []


def test_scales_per_channel_need_opset_13_and_pairs_alone_10(found) -> None:
    build = Builder()
    outputs = build.predictions(build.layer("images", "a", (3, 16)))
    [finding] = found("opset", build.model(outputs, opset=12))
    assert finding.nodes == ("a/weight/DQ",)
    assert finding.message == "opset is 12; scales per channel came with opset 13"
    build = Builder()
    out = build.pair("images", "a")
    assert found("opset", build.model([out], opset=10)) == []
    assert "came with opset 10" in found("opset", build.model([out], opset=9))[0].message


def test_float16_scales_need_opset_19(found) -> None:
    build = Builder()
    out = build.pair("images", "a", dtype=np.float16)
    assert found("opset", build.model([out], opset=19)) == []
    [finding] = found("opset", build.model([out], opset=17))
    assert finding.message == "opset is 17; float16 scales came with opset 19"


def test_a_file_without_standard_operators_imports_none(found) -> None:
    model = detector()
    del model.opset_import[:]
    assert [f.message for f in found("opset", model)] == ["the file imports no version of the standard operators"]


@pytest.mark.parametrize(
    ("op", "domain"),
    [
        ("QLinearConv", ""),
        ("QLinearMatMul", ""),
        ("ConvInteger", ""),
        ("MatMulInteger", ""),
        ("DynamicQuantizeLinear", ""),
        ("QLinearSigmoid", "com.microsoft"),
        ("QGemm", "com.microsoft"),
    ],
)
def test_operators_on_codes_are_errors(found, op: str, domain: str) -> None:
    build = Builder()
    out = build.node(op, ["images"], "bad", domain=domain)
    [finding] = found("integer-operator", build.model([out]))
    assert (finding.severity, finding.nodes) == (Severity.ERROR, ("bad",))
    assert finding.message == f"operators compute with integers: 'bad' is {op}"
    assert found("no-quantization", build.model([out])) == []


def test_pairs_around_float_operators_are_fine(found) -> None:
    assert found("integer-operator", detector()) == []


def test_pairs_of_onnx_runtimes_domain_are_linted_too_and_named(found) -> None:
    build = Builder()
    out = build.pair("images", "a", domain="com.microsoft", point=4)
    model = build.model([out], **{"com.microsoft": 1})
    [finding] = found("contrib-operator", model)
    assert (finding.severity, finding.nodes) == (Severity.WARNING, ("a/Q", "a/DQ"))
    assert finding.message == "Q and DQ are of the domain com.microsoft: 'a/Q', 'a/DQ'"
    assert found("zero-point", model)[0].nodes == ("a/Q", "a/DQ")
    assert found("contrib-operator", detector()) == []


def test_pairs_of_a_domain_nobody_knows_are_none(found) -> None:
    build = Builder()
    model = build.model([build.pair("images", "a", domain="own", point=4)], own=1)
    assert found("zero-point", model) == []
    assert found("no-quantization", model) != []


def test_a_float_file_has_one_warning(found) -> None:
    build = Builder()
    model = build.model([build.conv("images", "conv", (3, 16), quantized=False)])
    [finding] = found("no-quantization", model)
    assert (finding.severity, finding.nodes) == (Severity.WARNING, ())
    assert finding.message == "none of the 1 nodes is a QuantizeLinear or DequantizeLinear"
    assert found("no-quantization", detector()) == []


@pytest.mark.parametrize(
    ("code", "block", "first", "what"),
    [
        (TensorProto.INT4, 0, 21, "INT4"),
        (TensorProto.INT4, 16, 21, "INT4"),
        (TensorProto.FLOAT8E4M3FN, 0, 19, "FP8"),
        (TensorProto.FLOAT8E4M3FN, 16, 21, "blocks of scales"),
        (TensorProto.FLOAT4E2M1, 16, 23, "FP4"),
        (TensorProto.INT8, 16, 21, "blocks of scales"),
    ],
)
def test_newer_types_and_blocks_need_their_opset(found, code: int, block: int, first: int, what: str) -> None:
    build = Builder()
    build.initializers.append(helper.make_tensor("codes", code, [16, 16], np.zeros(256, dtype=int)))
    scale = build.constant("scale", np.full((16, 1), 0.1) if block else 0.1)
    options = {"axis": 1, "block_size": block} if block else {}
    out = build.node("DequantizeLinear", ["codes", scale], "DQ", **options)
    assert found("opset", build.model([out], opset=first)) == []
    [finding] = found("opset", build.model([out], opset=first - 1))
    assert finding.message == f"opset is {first - 1}; {what} came with opset {first}"
