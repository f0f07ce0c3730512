"""Starting: what is imported for a command, and the answer to a command or an option that does not exist."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from yoloqat.cli import main

Cli = Callable[..., Any]

HEAVY = ("torch", "ultralytics", "onnxruntime", "openvino", "matplotlib", "cv2", "numpy", "rich")


def imported(code: str) -> set[str]:
    report = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint('modules', *sys.modules)"
    run = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


def test_the_overview_imports_nothing_heavy() -> None:
    assert not imported("from yoloqat.cli import main; main(['--help'])").intersection(HEAVY)


def test_lint_imports_no_torch_and_no_engine() -> None:
    modules = imported("import yoloqat.cli.lint, yoloqat.cli.execute")
    assert "onnx" in modules
    assert not modules.intersection(HEAVY) - {"numpy", "rich"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["comapre"], "yoloqat: unknown command 'comapre'; did you mean compare?"),
        (["zzzzz"], "yoloqat: unknown command 'zzzzz'; expected one of quantize, demo, inspect"),
        (["eval", "a.pt", "--bathc", "4"], "yoloqat eval: unrecognized argument '--bathc'; did you mean --batch?"),
        (["eval", "a.pt", "--qqqqqqq"], "yoloqat eval: unrecognized argument '--qqqqqqq'; see yoloqat eval --help"),
        (["eval", "a.pt", "data=c.yaml"], "yoloqat eval: 'data=c.yaml' is no option; did you mean --data c.yaml?"),
        (["eval", "model=a.pt"], "yoloqat eval: 'model=a.pt' is no option; write the model alone: a.pt"),
        (["export", "a.pt", "nms_iou=0.6"], "'nms_iou=0.6' is no option; did you mean --nms-iou 0.6?"),
        (["--threads", "2"], "yoloqat: '--threads' comes before the command; write yoloqat COMMAND --threads"),
    ],
)
def test_an_unknown_word_is_answered_with_the_nearest(cli: Cli, line: list[str], told: str) -> None:
    ran = cli(*line)
    assert ran.code == 2
    assert told in ran.err
    assert len(ran.err.splitlines()) == 1


def test_the_name_alone_shows_the_help_and_ends_as_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as bare:
        main([])
    shown = capsys.readouterr()
    with pytest.raises(SystemExit) as asked:
        main(["--help"])
    assert (bare.value.code, shown.out, asked.value.code) == (2, "", 0)
    assert shown.err == capsys.readouterr().out
    assert "calibrate Calibrate a model by one method and save it." in " ".join(shown.err.split())


def test_an_option_whose_value_is_an_assignment_is_taken(cli: Cli) -> None:
    ran = cli("finetune", "missing.safetensors", "--train", "mosaic=0.5", "--data", "missing.yaml")
    assert ran.code == 2
    assert "is no option" not in ran.err


def test_the_version_is_the_packages(cli: Cli) -> None:
    from importlib.metadata import version

    ran = cli("--version")
    assert (ran.code, ran.out.strip()) == (0, f"yoloqat {version('yoloqat')}")
