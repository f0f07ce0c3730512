from __future__ import annotations

import pytest
from made_results import fidelity, former, joined

from yoloqat.report.summary import summary_rows, summary_section


def rows():
    return {row["directory"].removeprefix("runs/"): row for row in summary_rows(joined()["results"]["reports"])}


def test_each_result_has_its_models_in_their_columns():
    found = rows()
    assert found["demo"] == {
        "directory": "runs/demo",
        "command": "demo",
        "model": "tiny.pt",
        "float": 0.6,
        "quantized": 0.5,
        "engine": 0.4,
        "drop": 0.2,
        "drop_ci95": [0.1, 0.3],
        "d": None,
    }
    assert (found["eval"]["float"], found["eval"]["quantized"], found["eval"]["drop"]) == (
        0.635974368833919,
        None,
        None,
    )
    assert found["finetune"]["quantized"] == former("finetune")["results"]["map50_95"]
    assert found["noise"]["d"] == 0.04
    assert [found["lint"][name] for name in ("float", "quantized", "engine", "drop", "d")] == [None] * 5


def test_of_a_comparison_it_is_the_best_method():
    compared = former("compare")["results"]
    best = next(row for row in compared["methods"] if row["method"] == "per-layer")
    assert rows()["compare"]["quantized"] == best["map50_95"]
    assert rows()["compare"]["drop"] == best["drop"]
    other = {"directory": "a", **fidelity()}
    other["results"]["best"] = "entropy"
    row = summary_rows([other])[0]
    assert (row["drop"], row["drop_ci95"], row["d"]) == (other["results"]["methods"][1]["drop"], None, 0.05)


def test_what_is_not_as_documented_is_an_empty_row():
    broken = former("compare") | {"directory": "a", "results": {"methods": 3}}
    assert [
        value for name, value in summary_rows([broken])[0].items() if name not in ("directory", "command", "model")
    ] == [None] * 6


def test_the_table_and_the_plot_show_the_rows():
    section = summary_section(joined()["results"]["reports"])
    assert len(section.tables[0].rows) == len(joined()["results"]["reports"])
    row = next(row for row in section.tables[0].rows if row[0] == "runs/demo")
    assert row[1:] == ("demo", "tiny.pt", "0.6000", "0.5000", "0.4000", "+0.2000", "[+0.1000, +0.3000]", "-")
    bars = {bar["name"]: bar["value"] for bar in section.charts[0].spec["data"]["values"]}
    assert bars["runs/demo"] == pytest.approx(0.2)
    assert "runs/lint" not in bars
    assert summary_section([former("lint") | {"directory": "a"}]).charts == ()
