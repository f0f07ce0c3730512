from __future__ import annotations

import json
from pathlib import Path

import pytest
from qdq_graphs import Builder, detector

from yoloqat.linting import RULES, lint_model, to_sarif


@pytest.fixture
def log():
    build = Builder()
    tensor = build.conv(build.pair("images", "a", 1e-9, point=3), "conv", (3, 10))
    model = build.model([build.node("Relu", [build.conv(build.pair(tensor, "b"), "last", (10, 5))], "out")], opset=25)
    return to_sarif(lint_model(model), Path("models/a file.onnx"))


def test_the_log_has_what_sarif_2_1_0_asks_for(log) -> None:
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    [run] = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "yoloqat lint"
    assert json.loads(json.dumps(log)) == log
    for result in run["results"]:
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
        [location] = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"] == "models/a%20file.onnx"


def test_an_absolute_path_is_a_file_uri(tmp_path: Path) -> None:
    build = Builder()
    findings = lint_model(build.model([build.pair("images", "a", point=3)]))
    [result] = to_sarif(findings, tmp_path / "a b.onnx")["runs"][0]["results"]
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == f"file://{tmp_path.as_posix()}/a%20b.onnx"


def test_nodes_are_logical_locations_and_a_finding_of_the_file_has_none(log) -> None:
    results = {result["ruleId"]: result for result in log["runs"][0]["results"]}
    names = [place["fullyQualifiedName"] for place in results["zero-point"]["locations"][0]["logicalLocations"]]
    assert names == ["a/Q", "a/DQ"]
    assert "logicalLocations" not in results["opset"]["locations"][0]
    assert results["scale-underflow"]["level"] == "note"


def test_every_rule_is_described_with_help_and_the_anchor_of_its_documentation(log) -> None:
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.id for rule in RULES]
    for rule in rules:
        assert rule["helpUri"].startswith("https://")
        assert rule["properties"]["documentation"] == f"docs/lint.md#{rule['id']}"
        assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note")
        assert rule["shortDescription"]["text"]


def test_a_clean_file_has_a_run_without_results() -> None:
    assert to_sarif(lint_model(detector()), Path("m.onnx"))["runs"][0]["results"] == []
