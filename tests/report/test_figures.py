from __future__ import annotations

import pytest
from made_results import demo, former, search, unlabelled

from yoloqat.report.figures import (
    bounds,
    drop_sentence,
    expected,
    few,
    layer_count,
    measure,
    measured,
    method_name,
    percent,
    scores,
    short_names,
    value,
)


@pytest.mark.parametrize(
    ("results", "sentence"),
    [
        ({"drop": 0.0062, "drop_ci95": [0.001, 0.0114]}, "it loses 0.0062 mAP [+0.0010, +0.0114]"),
        ({"drop": -0.0062, "drop_ci95": [-0.01, -0.002]}, "it gains 0.0062 mAP (drop [-0.0100, -0.0020])"),
        (
            {"drop": 0.001, "drop_ci95": [-0.001, 0.003]},
            "its drop of +0.0010 mAP [-0.0010, +0.0030] cannot be told from zero",
        ),
        ({"drop": 0.0, "drop_ci95": [0.0, 0.0]}, "its drop of +0.0000 mAP [+0.0000, +0.0000] cannot be told from zero"),
        ({"drop": 0.5, "drop_ci95": None, "drop_ci95_reason": "one image"}, "its drop is +0.5000 mAP (one image)"),
        ({"drop": 0.5, "drop_ci95": [None, 0.1]}, "its drop is +0.5000 mAP (no interval)"),
        ({"drop": None}, "its drop is not known"),
    ],
)
def test_a_drop_is_a_loss_only_where_its_interval_says_so(results, sentence):
    assert drop_sentence(results) == sentence


@pytest.mark.parametrize(("found", "expected"), [(1, 1.0), (0.5, 0.5), (None, None), ("1", None), (True, None)])
def test_only_a_number_is_a_value(found, expected):
    assert value({"x": found}, "x") == expected


@pytest.mark.parametrize(
    ("found", "expected"), [([0, 1], (0.0, 1.0)), (None, None), ([None, 1], None), ([1], None), ("ab", None)]
)
def test_only_two_ends_are_an_interval(found, expected):
    assert bounds({"x": found}, "x") == expected


def test_what_is_missing_is_a_dash():
    assert (measure(None), percent(None), few(None)) == ("-", "-", "-")
    assert (measure(0.043123), percent(0.12345), few(list("abcdef"))) == ("0.04312", "12.3 %", "a, b, c, d and 2 more")


def test_a_drop_to_expect_is_told_with_its_band():
    assert expected({"expected_drop": 0.01, "expected_drop_band": [0.0, 0.02]}) == "0.0100 (0.0000 to 0.0200)"
    assert expected({"expected_drop": None, "expected_drop_band": None}) is None
    assert expected({}) is None
    assert measured({"d": 0.04}) == "0.04"


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"method": "mse", "params": {}}, "mse"),
        ({"method": "mse"}, "mse"),
        ({"method": "percentile", "params": {"percentile": 99.99}}, "percentile-99.99"),
        ({"method": "percentile", "params": {"percentile": 99.99999}}, "percentile-99.99999"),
    ],
)
def test_a_method_is_named_as_the_command_line_takes_it(row, name):
    assert method_name(row) == name


def test_float_layers_are_told_by_number_or_by_name():
    assert [layer_count(found) for found in (3, ["a", "b"], [], None, True)] == [3, 2, 0, None, None]


def test_models_are_named_by_as_much_of_their_paths_as_tells_them_apart():
    assert short_names(["runs/a/model.onnx", "runs/a/model.engine"]) == ["model.onnx", "model.engine"]
    assert short_names(["runs/a/m.onnx", "runs/b/m.onnx"]) == ["a/m.onnx", "b/m.onnx"]
    assert short_names(["m.onnx"]) == ["m.onnx"]


def found(result):
    model = (result["provenance"]["inputs"].get("model") or {}).get("path", "")
    return [(s.role, s.label, s.map50_95, s.drop) for s in scores(result["command"], result["results"], model)]


def test_the_drop_belongs_to_the_last_model_of_a_way():
    assert found(demo()) == [
        ("float", "Float", 0.6, None),
        ("qfloat", "QFloat", 0.5, None),
        ("engine", "INT8 engine", 0.4, 0.2),
    ]
    calibrated = found(former("calibrate"))
    assert [entry[:2] for entry in calibrated] == [
        ("float", "Float"),
        ("qfloat", "Swapped, each tensor's own range"),
        ("qfloat", "QFloat"),
    ]
    assert [entry[3] for entry in calibrated] == [None, None, pytest.approx(0.18817, abs=1e-5)]
    assert [entry[:2] for entry in found(former("finetune"))] == [
        ("float", "Float"),
        ("qfloat", "calibrated"),
        ("qfloat", "fine-tuned"),
    ]
    assert found(search()) == [("qfloat", "QFloat", 0.36, 0.006)]
    assert found(former("sensitivity"))[1][1:] == ("QFloat", 0.4478026104201625, None)
    assert len(found(former("compare"))) == 8
    assert found(former("lint")) == []
    assert {entry[2:] for entry in found(unlabelled())} == {(None, None)}


@pytest.mark.parametrize(
    ("model", "role"), [("a.pt", "float"), ("a.safetensors", "qfloat"), ("a.onnx", "engine"), ("a_openvino", "engine")]
)
def test_the_file_that_was_scored_says_what_it_is(model, role):
    assert scores("eval", {"map50_95": 0.5}, model)[0].role == role
