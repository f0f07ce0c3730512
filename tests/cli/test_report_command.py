"""The page beside every result, and that of several."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yoloqat.results import counted

Cli = Callable[..., Any]
FORMER = Path(__file__).parents[1] / "golden" / "former" / "results"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A directory of results as commands write them."""
    for name in ("eval", "compare", "build"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        shutil.copy(FORMER / f"{name}.json", tmp_path / "runs" / name / "result.json")
    return tmp_path / "runs"


def test_every_result_has_its_page_beside_it(cli: Cli, tiny_onnx: Path) -> None:
    ran = cli("lint", tiny_onnx)
    assert ran.code == 0
    assert ran.files == ["report.html", "result.json"]
    assert f"wrote {ran.directory / 'report.html'}, {ran.directory / 'result.json'}" in ran.out
    first = (ran.directory / "report.html").read_text(encoding="utf-8")
    counts = (counted(ran.result["results"][name], name[:-1]) for name in ("errors", "warnings", "notes"))
    assert "The lint of model.onnx finds {}, {} and {}.".format(*counts) in first
    (ran.directory / "report.html").write_text("of before")
    ran = cli("lint", tiny_onnx, "--json", "-")
    assert json.loads(ran.out) == ran.result
    second = (ran.directory / "report.html").read_text(encoding="utf-8")
    assert "finds 0 errors" in second
    assert cli("lint", tiny_onnx, "--quiet").out == ""


def test_a_page_that_cannot_be_drawn_loses_no_result_and_leaves_none_of_before(
    cli: Cli, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cli("lint", tiny_onnx)
    assert "report.html" in before.files

    def fail(result: object, **_: object) -> str:
        raise RuntimeError("no template")

    monkeypatch.setattr("yoloqat.report.page.page", fail)
    ran = cli("lint", tiny_onnx)
    assert (ran.code, ran.files) == (0, ["result.json"])
    assert ran.result["results"] == before.result["results"]
    assert re.search(r"warning: .*result.json is written, but report.html .* RuntimeError: no template", ran.err)
    assert "report.html" not in ran.out


def test_a_template_engine_that_is_not_there_takes_the_page_alone(
    cli: Cli, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yoloqat.report.page", None)
    ran = cli("lint", tiny_onnx)
    assert (ran.code, ran.files) == (0, ["result.json"])
    assert "report.html beside it is not: ModuleNotFoundError" in ran.err


def test_a_full_disk_takes_the_page_alone(cli: Cli, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def full(source: str, target: str) -> None:
        if str(target).endswith("report.html"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    ran = cli("lint", tiny_onnx)
    assert (ran.code, ran.files) == (0, ["result.json"])
    assert "report.html' (No space left on device)" in ran.err


def test_results_are_joined_in_one_page(cli: Cli, results: Path) -> None:
    ran = cli("report", results / "eval", results / "compare")
    assert ran.code == 0
    found = ran.result["results"]
    assert [row["command"] for row in found["summary"]] == ["eval", "compare"]
    assert found["summary"][0]["float"] == json.loads((FORMER / "eval.json").read_text())["results"]["map50_95"]
    assert found["reports"][1]["results"] == json.loads((FORMER / "compare.json").read_text())["results"]
    assert [entry["path"] for entry in ran.result["provenance"]["inputs"]["results"]] == [
        str(results / name / "result.json") for name in ("eval", "compare")
    ]
    text = (ran.directory / "report.html").read_text(encoding="utf-8")
    assert "2 results in one page." in text
    assert text.count("<article") == 2


def test_a_directory_stands_for_the_results_inside_each_once_without_joined_ones(cli: Cli, results: Path) -> None:
    joined = results / "report"
    ran = cli("report", results, results / "eval", out=joined)
    assert [row["command"] for row in ran.result["results"]["summary"]] == ["build", "compare", "eval"]
    again = cli("report", results, results / "eval", out=joined)
    assert (again.code, again.result["results"]) == (0, ran.result["results"])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "' holds no result.json; expected a directory of results; name directories that hold a result.json"),
        ("{", "' holds a result.json that cannot be read (Expecting property name"),
        (
            '{"schema": {"name": "other"}}',
            '\' holds a result.json with the schema {"name": "other"}; expected one with',
        ),
        (
            '{"schema": {"name": "yoloqat/result", "version": 1}, "command": "eval", "results": [1]}',
            "' has the results [1]; expected an object of them",
        ),
        (
            '{"schema": {"name": "yoloqat/result", "version": 1}, "command": "report", "results": {}}',
            "' holds results that `yoloqat report` joined; expected results of other commands",
        ),
    ],
)
def test_a_directory_without_a_result_is_told_in_one_line(
    cli: Cli, tmp_path: Path, content: str | None, told: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    if content is not None:
        (folder / "result.json").write_text(content)
    ran = cli("report", folder)
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert f"{folder}{told}" in ran.err
    assert cli("report", "a" * 300).code == 2
    assert cli("report", tmp_path / "absent").err.count("holds no result.json") == 1


def test_numbers_that_are_not_finite_do_not_keep_a_result_from_its_page(cli: Cli, results: Path) -> None:
    path = results / "compare" / "result.json"
    found = json.loads(path.read_text())
    found["results"]["methods"][0]["drop"] = float("nan")
    path.write_text(json.dumps(found))
    ran = cli("report", results / "compare")
    assert ran.code == 0
    assert "report.html" in ran.files
    assert ran.result["results"]["undefined"] == {"reports[0].results.methods[0].drop": "nan"}
