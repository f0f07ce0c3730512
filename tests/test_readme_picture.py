"""The picture of the README is drawn from the recorded noise budget, and the README tells its figures."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "docs" / "images" / "noise_budget.json"


@pytest.fixture
def picture(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("readme_picture")


@pytest.fixture
def record() -> dict[str, Any]:
    return json.loads(RECORD.read_text(encoding="utf-8"))


def test_the_shares_of_the_record_add_up(record) -> None:
    results = record["results"]
    assert sum(item["share"] for item in results["items"]) == pytest.approx(1.0)
    assert [item["share"] for item in results["items"]] == sorted((i["share"] for i in results["items"]), reverse=True)
    assert {item["name"] for item in results["items"]} >= set(results["ignore"])


def test_the_readme_tells_the_figures_of_the_record(record) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    caption = re.sub(r"\s+", " ", text[text.index("noise_budget.png)") : text.index("## Two commands")])
    results = record["results"]
    first, start = results["items"][0], results["curve"][0]
    knee = next(p for p in results["curve"] if "d" in p and p["float_layers"] >= len(results["ignore"]))
    for told in (
        f"`{first['name']}`, makes {100 * first['share']:.0f} %",
        f"first {knee['items']} of {len(results['items'])} ",
        f"from {start['d']:.3f} to {knee['d']:.3f} on {results['curve_images']} other images",
        f"{100 * knee['int8_mac_share']:.0f} % of the multiply-adds",
        f"{results['images']} images",
    ):
        assert told in caption


def test_a_run_is_recorded_without_paths_and_drawn(picture, record, tmp_path, capsys) -> None:
    result = json.loads(json.dumps(record))
    command = record["provenance"]["command_line"].replace("yolov8n.pt", "/some/where/yolov8n.pt")
    result["provenance"] |= {"command_line": command, "platform": "of this machine"}
    result["results"]["items"][0] |= {"quantizers": ["a"]}
    (tmp_path / "result.json").write_text(json.dumps(result))
    made = tmp_path / "made.json"
    assert picture.run(["--run", str(tmp_path / "result.json"), "--record", str(made)]) == 0
    assert json.loads(made.read_text()) == record
    assert made.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.strip() == str(made.with_suffix(".png"))
