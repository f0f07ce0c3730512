from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from qdq_graphs import Builder, detector

from yoloqat.errors import ModelError
from yoloqat.linting import Severity, lint_file, lint_model, lint_results


def test_a_detector_without_fault_has_no_finding_and_is_valid() -> None:
    model = detector()
    onnx.checker.check_model(model, full_check=True)
    before = model.SerializeToString(deterministic=True)
    assert lint_model(model) == []
    assert model.SerializeToString(deterministic=True) == before
    assert lint_results([]) == {"errors": 0, "warnings": 0, "notes": 0, "findings": []}


def test_findings_come_by_severity_and_count() -> None:
    build = Builder()
    wide = build.conv(build.pair("images", "a", 1e-6, point=3), "conv", (3, 10))
    findings = lint_model(build.model(build.predictions(build.node("Add", [wide, wide], "add"))))
    order = [list(Severity).index(finding.severity) for finding in findings]
    assert order == sorted(order)
    results = lint_results(findings)
    assert (results["errors"], results["warnings"], results["notes"]) == (1, 1, 1)
    assert [set(entry) for entry in results["findings"]] == [
        {"rule", "severity", "nodes", "message", "hint", "mend"}
    ] * 3
    assert results["findings"][0]["nodes"] == ["a/Q", "a/DQ"]


def test_one_finding_names_all_nodes_and_shows_the_first_three() -> None:
    build = Builder()
    tensor = "images"
    for index in range(5):
        tensor = build.pair(tensor, f"p{index}", point=7)
    [finding] = [f for f in lint_model(build.model([tensor])) if f.rule == "zero-point"]
    assert len(finding.nodes) == 10
    assert finding.message == "zero-points are not 0: 'p0/Q' has 7, 'p0/DQ' has 7, 'p1/Q' has 7 and 7 more"


def test_a_node_without_a_name_goes_by_operator_and_output() -> None:
    build = Builder()
    out = build.pair("images", "a", point=1)
    for node in build.nodes:
        node.ClearField("name")
    [finding] = [f for f in lint_model(build.model([out])) if f.rule == "zero-point"]
    assert finding.nodes == ("QuantizeLinear->a/Q_out", "DequantizeLinear->a/DQ_out")


def test_rules_apply_inside_the_branches_of_an_if_and_inside_functions() -> None:
    inner = Builder()
    inner.pair("images", "inner", point=1)
    inner.inputs = []
    branch = helper.make_graph(
        inner.nodes, "branch", [], [helper.make_tensor_value_info("inner/DQ_out", 1, None)], inner.initializers
    )
    outer = Builder()
    outer.inputs.append(helper.make_tensor_value_info("which", onnx.TensorProto.BOOL, []))
    out = outer.node("If", ["which"], "if", then_branch=branch, else_branch=branch)
    model = outer.model([out])
    assert [f.nodes for f in lint_model(model) if f.rule == "zero-point"] == [("inner/Q", "inner/DQ")]
    assert "malformed-graph" not in [f.rule for f in lint_model(model)]  # both branches define the same names

    build = Builder()
    scale, point = build.constant("s", 0.1), build.constant("p", 5, np.int8)
    called = build.node("Fake", ["images", scale, point], "called", domain="own")
    model = build.model([called], own=1)
    body = [
        helper.make_node("QuantizeLinear", ["x", "s", "p"], ["q"], name="Q"),
        helper.make_node("DequantizeLinear", ["q", "s", "p"], ["y"], name="DQ"),
    ]
    model.functions.append(
        helper.make_function("own", "Fake", ["x", "s", "p"], ["y"], body, [helper.make_opsetid("", 19)])
    )
    assert [len(f.nodes) for f in lint_model(model) if f.rule == "zero-point"] == [2]


def test_scales_of_constant_nodes_behind_identity_and_cast_are_known(found) -> None:
    build = Builder()
    build.node("Constant", [], "one", value=numpy_helper.from_array(np.float32(0.1)))
    build.node("Constant", [], "two", value_float=0.1)
    build.node("Constant", [], "point", value=numpy_helper.from_array(np.int8(0)))
    half = build.node("Cast", [build.node("Identity", ["two_out"], "same")], "half", to=onnx.TensorProto.FLOAT)
    build.node("Reshape", [half, build.constant("shape", [1], np.int64)], "reshaped")
    codes = build.node("QuantizeLinear", ["images", "one_out", "point_out"], "Q")
    out = build.node("DequantizeLinear", [codes, "reshaped_out", "point_out"], "DQ")
    model = build.model(build.predictions(out))
    assert found("scale-not-constant", model) == []
    assert found("zero-point", model) == []
    assert found("unlike-pair", model) == []  # the same scale, as a scalar and in one dimension


def test_a_file_is_read_with_its_external_data(tmp_path: Path) -> None:
    build = Builder()
    out = build.pair("images", "a", np.full(400, 0.1), axis=1)
    onnx.save_model(build.model([out]), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="d")
    assert "activation-axis" in [finding.rule for finding in lint_file(tmp_path / "m.onnx")]
    (tmp_path / "d").unlink()
    with pytest.raises(ModelError, match=r"external data of '.*m\.onnx' cannot be read"):
        lint_file(tmp_path / "m.onnx")


@pytest.mark.parametrize("content", [b"no model at all \xff\xff", b"", b"PK\x03\x04 a zip"])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"m\.onnx' (is no ONNX file|has no IR version)"):
        lint_file(tmp_path / "m.onnx")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    whole = detector().SerializeToString()
    (tmp_path / "m.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"'.*m\.onnx' is no ONNX file"):
        lint_file(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["missing.onnx", "."])
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"cannot read '.*' \(No such file|'.*' is no regular file"):
        lint_file(tmp_path / name)


def test_rules_survive_nodes_that_lack_inputs_and_outputs() -> None:
    names = [
        "QuantizeLinear",
        "DequantizeLinear",
        "Conv",
        "MatMul",
        "Concat",
        "Add",
        "Mul",
        "Split",
        "Transpose",
        "Sigmoid",
    ]
    nodes = [helper.make_node(op, [], [], name=op) for op in names]
    nodes += [helper.make_node(op, ["x"], ["y"], name=f"{op}1") for op in names]
    graph = helper.make_graph(nodes, "broken", [], [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    assert "malformed-graph" in [finding.rule for finding in lint_model(model)]


def test_tensors_with_fewer_values_than_their_shape_says_are_unknown(found) -> None:
    build = Builder()
    out = build.pair("images", "a")
    build.initializers[0].raw_data = b"\x00"
    assert found("scale-not-constant", build.model([out]))[0].nodes == ("a/Q", "a/DQ")


def test_a_graph_without_anything_has_one_error() -> None:
    model = helper.make_model(helper.make_graph([], "empty", [], []), opset_imports=[helper.make_opsetid("", 19)])
    assert [(f.rule, f.message) for f in lint_model(model)] == [("malformed-graph", "the graph has no nodes")]


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    data = detector().SerializeToString().replace(b"QuantizeLinear", b"QuantizeLin\xff\xfer", 1)
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(
        ModelError, match=r"m\.onnx' holds 1 names that are no UTF-8, the first b'QuantizeLin.xff.xfer'"
    ):
        lint_file(tmp_path / "m.onnx")


def test_a_function_that_calls_itself_is_refused() -> None:
    model = detector()
    call = helper.make_node("loop", ["a"], ["b"], domain="own")
    model.functions.append(helper.make_function("own", "loop", ["a"], ["b"], [call], [helper.make_opsetid("own", 1)]))
    with pytest.raises(ModelError, match=r"functions of the model cannot be put in place \(Cycle .*own::loop"):
        lint_model(model)
