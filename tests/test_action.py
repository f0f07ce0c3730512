"""The GitHub Action parses, names what is there, and its line lints the files of a repository into one SARIF run."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import onnx
import pytest
import tiny_qdq
import yaml
from onnx import numpy_helper

from yoloqat.linting import TRT_VERSIONS

ROOT = Path(__file__).resolve().parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("lint_files")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good files, one whose scale is 0, and one that is a pointer of Git LFS, in the current directory."""
    for name in ("good.onnx", "models/deep/good.onnx"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        onnx.save(tiny_qdq.build(), tmp_path / name)
    bad = tiny_qdq.build()
    scale = next(value for value in bad.graph.initializer if value.name == "first/s")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * 0, "first/s"))
    onnx.save(bad, tmp_path / "models" / "bad.onnx")
    (tmp_path / "models" / "pointer.onnx").write_text("version https://git-lfs.github.com/spec/v1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def uris(log: Path) -> list[str]:
    (run,) = json.loads(log.read_text())["runs"]
    places = (result["locations"][0]["physicalLocation"] for result in run["results"] if result["level"] == "error")
    return [place["artifactLocation"]["uri"] for place in places]


def test_the_action_is_composite_and_passes_inputs_by_the_environment() -> None:
    steps = ACTION["runs"]["steps"]
    assert ACTION["runs"]["using"] == "composite"
    assert all(step["shell"] == "bash" and "${{" not in step["run"] for step in steps if "run" in step), "no injection"
    assert ACTION["inputs"]["trt-version"]["default"] == TRT_VERSIONS[0].name
    told = ACTION["inputs"]["trt-version"]["description"]
    assert all(version.name in told for version in TRT_VERSIONS)
    assert ACTION["outputs"]["sarif"]["value"] == "${{ steps.place.outputs.sarif }}"


def test_its_line_lints_what_a_glob_matches(repository: Path) -> None:
    packages = repository / "yoloqat" / "bin"  # where the step before has installed it
    packages.mkdir(parents=True)
    (packages / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (packages / "python").chmod(0o755)
    values = {name: entry["default"] for name, entry in ACTION["inputs"].items()}
    values["files"] = "**/*.onnx\n!models/pointer.onnx"
    step = next(step for step in ACTION["runs"]["steps"] if step.get("name") == "Lint")
    given = {key: values[value.split("inputs.")[1].split()[0]] for key, value in step["env"].items()}
    paths = {"RUNNER_TEMP": str(repository), "GITHUB_ACTION_PATH": str(ROOT), "PYTHONPATH": str(ROOT)}
    line = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    ran = subprocess.run(line, env=os.environ | paths | given, capture_output=True, text=True)
    assert ran.returncode == 1, ran.stderr
    assert "3 files; wrote yoloqat.sarif" in ran.stdout
    assert set(uris(repository / "yoloqat.sarif")) == {"models/bad.onnx"}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["good.onnx"], 0),
        (["*.onnx", "models/deep/*"], 0),
        (["models/*.onnx", "!**/pointer.onnx"], 1),
        (["models/bad.onnx", "--fail-on", "never"], 0),
        (["models/**/*.onnx", "!models/bad.onnx"], 2),
    ],
)
def test_the_exit_code_is_that_of_the_worst_file(repository, script, capsys, arguments, status) -> None:
    assert script.run([*arguments, "--sarif", "a.sarif"]) == status
    assert (repository / "a.sarif").is_file()
    assert capsys.readouterr().err.count("\n") == (status == 2)


@pytest.mark.parametrize(
    ("glob", "told"),
    [("*.pt", "no file in '.*' matches '\\*.pt'"), ("/models/*.onnx", "the globs are \\['/models/\\*.onnx'\\]")],
)
def test_globs_that_match_nothing_are_told_in_one_line(repository, script, capsys, glob, told) -> None:
    assert script.run([glob, "--sarif", "a.sarif"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(told, error)


@pytest.mark.parametrize("name", ["a model.onnx", 'it\'s "q".onnx', "[v1] a*.onnx"])
def test_a_line_that_names_a_file_is_that_file(repository, script, name) -> None:
    onnx.save(tiny_qdq.build(), repository / name)
    other = repository / "models" / "deep" / "good.onnx"
    assert script.matched(script.split(name), Path()) == [Path(name)]
    text = f"models/deep/*.onnx good.onnx\n  {name}\n"
    assert set(script.matched(script.split(text), Path())) == {
        Path(name),
        Path("good.onnx"),
        other.relative_to(repository),
    }
    assert script.matched(script.split(f"*.onnx\n!{name}"), Path()) == [Path("good.onnx")]


def test_a_log_that_cannot_be_written_is_told_in_one_line(repository, script, capsys) -> None:
    assert script.run(["good.onnx", "--sarif", "good.onnx/a.sarif"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lint: cannot write 'good.onnx/a.sarif'")
    assert error.count("\n") == 1
