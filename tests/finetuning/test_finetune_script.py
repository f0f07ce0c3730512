from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("finetune")


def steps(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, *argv: str, codes: tuple[int, ...] = ()
) -> list[list[str]]:
    """The lines that a call of the script would run."""
    lines: list[list[str]] = []

    def main(line: list[str]) -> int:
        lines.append(line)
        return codes[len(lines) - 1] if codes else 0

    monkeypatch.setattr(script, "main", main)
    assert script.run(["m.pt", "--data", "d.yaml", "--out", "o", *argv]) == (codes[-1] if codes else 0)
    return lines


def test_training_arguments_go_to_finetune_alone(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = steps(script, monkeypatch, "--epochs", "3", "--learn-amax", "--ignore", "model.22", "--threads", "2")
    assert [line[0] for line in lines] == ["calibrate", "finetune", "export"]
    assert lines[1][1] == str(Path("o/calibrate/model.safetensors"))
    assert lines[2][1] == str(Path("o/finetune/best.safetensors"))
    assert [("--learn-amax" in line, "--ignore" in line, "--threads" in line) for line in lines] == [
        (False, True, True),
        (True, False, True),
        (False, False, True),
    ]


def test_other_widths_than_eight_bits_are_not_exported(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = steps(script, monkeypatch, "--bits", "6")
    assert [line[0] for line in lines] == ["calibrate", "finetune"]
    assert lines[0][lines[0].index("--bits") + 1] == "6"


def test_the_first_step_that_fails_ends_it(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(steps(script, monkeypatch, codes=(2,))) == 1
