"""Options from a file, the completion scripts, and how much a command tells."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_detector import TinyData

from yoloqat.cli import main
from yoloqat.cli.main import parsed

Cli = Callable[..., Any]


def options(tmp_path: Path, text: str, name: str = "options.yaml") -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_a_yaml_gives_options_and_what_is_typed_counts_more(tmp_path: Path) -> None:
    file = options(tmp_path, "imgsz: [96, 64]\nnms_iou: 0.5\n--rect: true\nignore: [model.22, 'model.0*']\nbatch: 4\n")
    args = parsed(["compare", "m.pt", "--config", file, "--batch", "2"])[1]
    assert (args.imgsz, args.nms_iou, args.rect, args.batch) == ((96, 64), 0.5, True, 2)
    assert args.ignore == ["model.22", "model.0*"]
    assert parsed(["compare", "m.pt", f"--config={file}"])[1].batch == 4


def test_a_result_gives_the_line_that_made_it(cli: Cli, tiny_model: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    first = cli("eval", tiny_model, "--data", tiny_data.yaml, "--nms-iou", 0.6, out=tmp_path / "first")
    result = first.directory / "result.json"
    again = cli("eval", "--config", result, out=tmp_path / "again")
    assert (first.code, again.code) == (0, 0), again.err
    assert again.result["results"] == first.result["results"]
    assert again.result["provenance"]["arguments"] == first.result["provenance"]["arguments"]
    other = parsed(["eval", "other.pt", "--config", str(result)])[1]
    assert (other.model, other.nms_iou) == (Path("other.pt"), 0.6)


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("imgzs: 96", "o.yaml", "o.yaml' holds the option 'imgzs'; expected options of `yoloqat eval`"),
        ("- imgsz", "o.yaml", "o.yaml' holds list; expected options by name, e.g. imgsz: 640"),
        ("a: [", "o.yaml", "o.yaml' cannot be read ("),
        ("{", "o.json", "o.json' cannot be read ("),
        ('{"provenance": {}, "command": "bench"}', "o.json", "o.json' is a result of `yoloqat bench`; expected one of"),
        ('{"provenance": {}, "command": "eval"}', "o.json", "o.json' holds NoneType; expected options by name"),
    ],
)
def test_a_file_that_holds_no_options_is_named(cli: Cli, tmp_path: Path, text: str, name: str, told: str) -> None:
    ran = cli("eval", "m.pt", "--config", options(tmp_path, text, name))
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert told in ran.err


def test_a_file_that_is_not_there_is_named(cli: Cli) -> None:
    ran = cli("eval", "m.pt", "--config", "no.yaml")
    assert (ran.code, "options file 'no.yaml' cannot be read (no file of options)" in ran.err) == (2, True)
    assert main(["eval", "m.pt", "--config"]) == 2


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_completion_script_is_one_that_the_shell_reads(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, shell: str
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "sensitivity" in script
    assert "--calib-images" in script
    assert "_shtab_yoloqat_completion" in script
    if shell == "bash":
        assert " completion)" in next(line for line in script.splitlines() if "_subparsers=" in line)
        (tmp_path / "script").write_text(script)
        assert subprocess.run(["bash", "-n", str(tmp_path / "script")], check=False).returncode == 0


def test_a_shell_that_is_unknown_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["completion", "fush"])
    assert stop.value.code == 2
    assert "invalid choice: 'fush'" in capsys.readouterr().err


def test_quiet_shows_nothing_and_verbose_the_versions(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    line = ("bench", tiny_model, "--rounds", 1, "--warmup", 0)
    quiet = cli(*line, "-q", out=tmp_path / "quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    loud = cli(*line, "--verbose", out=tmp_path / "loud")
    first, last = loud.err.splitlines()
    assert first.startswith("yoloqat ")
    assert " on cpu, 1 thread of " in first
    assert last.startswith("bench 1/1, ")
    assert json.loads((tmp_path / "quiet" / "result.json").read_text())["command"] == "bench"
