from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def pair(path: Path, *, point: int = 0, scale: float = 0.1) -> Path:
    """Write a file with a single Q/DQ pair whose result is an output: a warning-free one has no weighted layer."""
    numbers = [
        numpy_helper.from_array(np.float32(scale), "scale"),
        numpy_helper.from_array(np.int8(point), "point"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "point"], ["codes"], name="Q"),
        helper.make_node("DequantizeLinear", ["codes", "scale", "point"], ["out"], name="DQ"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("images", "out")]
    graph = helper.make_graph(nodes, "pair", values[:1], values[1:], numbers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]), path)
    return path


def test_a_sound_file_ends_with_0_and_an_empty_list(cli: Any, tmp_path: Path) -> None:
    ran = cli("lint", pair(tmp_path / "m.onnx"))
    assert (ran.code, ran.err) == (0, "")
    result = ran.result
    assert result["command"] == "lint"
    assert result["results"] == {"errors": 0, "warnings": 0, "notes": 0, "findings": []}
    assert result["config"] == {"trt_version": "tensorrt-10", "strict": False}
    assert len(result["provenance"]["inputs"]["model"]["sha256"]) == 64
    assert "0 errors, 0 warnings, 0 notes" in " ".join(ran.out.split())
    assert ran.files == ["report.html", "result.json"]


def test_errors_end_with_1_and_are_listed_with_nodes_and_hint(cli: Any, tmp_path: Path) -> None:
    ran = cli("lint", pair(tmp_path / "m.onnx", point=3))
    assert ran.code == 1
    assert ran.err == "yoloqat lint: 1 error and 0 warnings; expected none of the errors; see 'findings'\n"
    [finding] = ran.result["results"]["findings"]
    assert finding == {
        "rule": "zero-point",
        "severity": "error",
        "nodes": ["Q", "DQ"],
        "message": "zero-points are not 0: 'Q' has 3, 'DQ' has 3",
        "hint": "calibrate symmetrically, with INT8 zero-points of 0",
        "mend": "calibrate symmetrically, with INT8 zero-points of 0",
    }
    assert "zero-point" in ran.out


def test_json_is_the_result_and_nothing_else(cli: Any, tmp_path: Path) -> None:
    ran = cli("lint", pair(tmp_path / "m.onnx", point=3), "--json", "-")
    assert json.loads(ran.out) == ran.result


def test_warnings_fail_with_strict_alone(cli: Any, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["images"], ["out"], name="relu")],
        "float",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]), tmp_path / "m.onnx")
    ran = cli("lint", tmp_path / "m.onnx")
    assert (ran.code, [f["rule"] for f in ran.result["results"]["findings"]]) == (0, ["no-quantization"])
    ran = cli("lint", tmp_path / "m.onnx", "--strict")
    assert ran.code == 1
    assert ran.err == "yoloqat lint: 0 errors and 1 warning; expected none; see 'findings'\n"


def test_notes_do_not_fail_even_with_strict(cli: Any, tmp_path: Path) -> None:
    ran = cli("lint", pair(tmp_path / "m.onnx", scale=1e-9), "--strict")
    assert (ran.code, ran.result["results"]["notes"]) == (0, 1)


def test_the_version_of_tensorrt_decides_what_opset_is_too_high(cli: Any, tmp_path: Path) -> None:
    path = pair(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.opset_import[0].version = 25
    onnx.save(model, path)
    assert cli("lint", path).code == 1
    ran = cli("lint", path, "--trt-version", "tensorrt-11")
    assert (ran.code, ran.result["config"]["trt_version"]) == (0, "tensorrt-11")


def test_the_former_name_of_the_version_is_taken_and_not_shown(cli: Any, tmp_path: Path) -> None:
    path = pair(tmp_path / "m.onnx")
    assert cli("lint", path, "--target", "tensorrt-11").result["config"]["trt_version"] == "tensorrt-11"
    helped = cli("lint", "--help").out
    assert "--trt-version" in helped
    assert "--target" not in helped
    ran = cli("lint", path, "--target", "openvino")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "'openvino'" in ran.err


def test_sarif_is_written_whole_beside_the_result(cli: Any, tmp_path: Path) -> None:
    ran = cli("lint", pair(tmp_path / "m.onnx", point=3), "--sarif", tmp_path / "made" / "lint.sarif")
    assert ran.code == 1
    log = json.loads((tmp_path / "made" / "lint.sarif").read_text())
    assert [result["ruleId"] for result in log["runs"][0]["results"]] == ["zero-point"]
    assert "made/lint.sarif" in "".join(ran.out.split())
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["lint.sarif"]


def test_a_sarif_that_cannot_be_written_is_the_users_error(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = cli("lint", pair(tmp_path / "m.onnx"), "--sarif", tmp_path / "file" / "lint.sarif")
    assert ran.code == 2
    assert "lint.sarif" in ran.err


@pytest.mark.parametrize("content", [b"", b"text, no model \xff", b"\x08\x0a\x3a\xff\xff\x03cut"])
def test_what_is_no_onnx_file_ends_with_2_and_one_line(cli: Any, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    ran = cli("lint", tmp_path / "m.onnx")
    assert (ran.code, ran.err.count("\n"), ran.files) == (2, 1, [])
    assert ran.err.startswith("yoloqat lint: '")
    assert "expected an ONNX file" in ran.err


def test_a_missing_file_ends_with_2(cli: Any, tmp_path: Path) -> None:
    ran = cli("lint", tmp_path / "none.onnx")
    assert ran.code == 2
    assert "No such file" in ran.err


def test_brackets_in_names_are_shown_as_they_are(cli: Any, tmp_path: Path) -> None:
    path = pair(tmp_path / "m.onnx", point=3)
    model = onnx.load(path)
    model.graph.node[0].name = "[bold]Q[/bold]"
    onnx.save(model, path)
    assert "[bold]Q[/bold]" in "".join(cli("lint", path).out.replace("│", "").split())


def test_our_own_export_has_no_error(cli: Any, tiny_onnx: Path) -> None:
    ran = cli("lint", tiny_onnx)
    assert (ran.code, ran.result["results"]["errors"]) == (0, 0)
