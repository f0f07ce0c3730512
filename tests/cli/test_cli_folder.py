"""A directory of results takes those of one line of settings, and others only with --overwrite."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_detector import TinyData, make_module, save_module

from yoloqat.cli import folder
from yoloqat.cli.commands import COMMANDS
from yoloqat.cli.main import main
from yoloqat.provenance import file_sha256

Cli = Callable[..., Any]
MEND = "name another directory with --out, or replace what it holds with --overwrite"


@pytest.fixture(scope="module")
def line(tiny_model: Path, tiny_data: TinyData) -> list[str]:
    arguments = ("--calib-images-dir", tiny_data.train, "--calib-images", 3, "--no-eval", "--method", "max")
    return [str(argument) for argument in ("calibrate", tiny_model, *arguments)]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, line: list[str]) -> Path:
    """Results with a curve, beside a file of the user's own; not to be changed by a test."""
    out = tmp_path_factory.mktemp("calibrated") / "out"
    assert main([*line, "--curve", "1,3", "--threads", "1", "--out", str(out)]) == 0
    (out / "notes.txt").write_text("mine")
    return out


@pytest.fixture
def own(calibrated: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(calibrated, tmp_path / "own"))


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()}


def refused(ran: Any, *parts: str) -> None:
    assert (ran.code, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1, ran.err
    for part in parts:
        assert part in ran.err
    assert ran.err.endswith(f"{MEND}\n")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (["--curve", "1,3", "--method", "mse"], "made with --method 'max'; expected 'mse', as this run has"),
        (["--curve", "1,2"], "made with --curve '1,3'; expected '1,2', as this run has"),
        ([], "made with --curve '1,3'; expected none, as this run has"),
        (["--curve", "1,3", "--bits", "6"], "made with --bits 8; expected 6, as"),
        (["--curve", "1,3", "--affine"], "made with --affine false; expected true, as"),
        (["--curve", "1,3", "--ignore", "model.0"], 'made with --ignore []; expected ["model.0"], as'),
        (["--curve", "1,3", "--threads", "2"], "made with --threads 1; expected 2, as"),
        (
            ["--bits", "6", "--affine"],
            "made with --curve '1,3'; expected none, as this run has; --bits, --affine differ too",
        ),
    ],
)
def test_results_of_other_settings_stay(
    cli: Cli, calibrated: Path, line: list[str], changed: list[str], told: str
) -> None:
    before = state(calibrated)
    ran = cli(*line, *changed, out=calibrated)
    refused(ran, f"yoloqat calibrate: '{calibrated}' holds results {told}")
    assert state(calibrated) == before


def test_nothing_is_begun_where_results_of_other_settings_are(
    cli: Cli, calibrated: Path, line: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yoloqat.cli.calibrate.load_detector", lambda path: pytest.fail("begun"))
    refused(cli(*line, out=calibrated), "--curve '1,3'")


def test_results_of_another_command_stay(cli: Cli, calibrated: Path, tiny_checkpoint: Path) -> None:
    ran = cli("export", tiny_checkpoint, out=calibrated)
    refused(ran, f"'{calibrated}' holds results of `yoloqat calibrate`; expected those of `yoloqat export`")


def test_the_same_settings_are_run_again_however_they_are_spelled(
    cli: Cli, own: Path, line: list[str], tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = json.loads((own / "result.json").read_text())
    monkeypatch.chdir(own)
    relative = [os.path.relpath(word) if word.startswith("/") else word for word in line]
    ran = cli(*relative, "--curve=1,3", "--seed", 0, out=Path())
    assert ran.code == 0, ran.err
    after = json.loads((own / "result.json").read_text())
    assert after["provenance"]["arguments"] == before["provenance"]["arguments"]
    assert after["provenance"]["command_line"] != before["provenance"]["command_line"]
    assert (own / "notes.txt").read_text() == "mine"


def test_the_content_of_the_model_and_of_pattern_files_counts(
    cli: Cli, tiny_model: Path, line: list[str], tmp_path: Path
) -> None:
    model, patterns = tmp_path / "own.pt", tmp_path / "float.txt"
    shutil.copy(tiny_model, model)
    patterns.write_text("model.0\n")
    own = [*(str(model) if word == str(tiny_model) else word for word in line), "--ignore", f"@{patterns}"]
    out = tmp_path / "results"
    assert cli(*own, out=out).code == 0
    patterns.write_text("model.1\n")
    refused(cli(*own, out=out), '--ignore [{"path": ', "float.txt", "as this run has")
    patterns.write_text("model.0\n")
    save_module(make_module(seed=1), model)
    refused(cli(*own, out=out), f"made with MODEL '{model}' before that file changed; expected the file as it is now")
    lost = str(tmp_path / "lost.pt")
    other = [lost if word == str(model) else word for word in own]
    refused(cli(*other, out=out), f"expected '{lost}' (which does not exist), as this run has")


def test_overwrite_removes_what_the_former_command_wrote_and_nothing_else(
    cli: Cli, own: Path, line: list[str], tiny_model: Path
) -> None:
    kept = [name for name in state(own) if name.startswith("histograms-")]
    ran = cli("export", tiny_model, "--overwrite", out=own)
    assert ran.code == 0, ran.err
    assert sorted(state(own)) == sorted([*kept, "model.onnx", "notes.txt", "report.html", "result.json"])
    assert cli(*line, "--method", "mse", "--overwrite", out=own).code == 0
    assert sorted(state(own)) == sorted([*kept, "model.safetensors", "notes.txt", "report.html", "result.json"])


def test_overwrite_removes_nothing_that_the_line_reads(cli: Cli, own: Path) -> None:
    before = state(own)
    ran = cli("export", own / "model.safetensors", "--overwrite", out=own)
    assert ran.code == 2
    assert f"--overwrite would remove '{own / 'model.safetensors'}', which this run reads" in ran.err
    assert state(own) == before


@pytest.mark.parametrize("name", ["model.onnx", "float.onnx"])
@pytest.mark.parametrize("command", ["calibrate", "quantize"])
def test_a_model_in_the_directory_is_not_replaced_by_the_results(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    (tmp_path / name).write_bytes(b"mine")
    monkeypatch.chdir(tmp_path)
    for out in (".", f"../{tmp_path.name}", tmp_path):
        for model in (tmp_path / name, f"../{tmp_path.name}/{name}"):
            ran = cli(command, model, "--images", "photos", out=Path(out))
            assert (ran.code, ran.err.count("\n")) == (2, 1)
            assert f"`yoloqat {command}` would replace '{Path(out) / name}', which this run reads" in ran.err
            assert "name another directory with --out" in ran.err
    assert state(tmp_path).keys() == {name}
    assert (tmp_path / name).read_bytes() == b"mine"


@pytest.mark.parametrize("wrong", [("--threads", 0), ("--bits", 99), ("--calib-images", 1000)])
def test_overwrite_removes_nothing_where_the_line_is_wrong(
    cli: Cli, own: Path, line: list[str], wrong: tuple[object, ...]
) -> None:
    before = state(own)
    ran = cli(*line, *wrong, "--overwrite", out=own)
    assert (ran.code, str(wrong[1]) in ran.err) == (2, True)
    assert state(own) == before


def test_what_is_written_anew_stays_where_the_rest_fails(
    cli: Cli, own: Path, line: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (own / "model.safetensors").read_bytes()
    monkeypatch.setattr("yoloqat.cli.calibrate.options.model_input", lambda detector: {"not": {"JSON-able"}})
    with pytest.raises(TypeError, match="set is not JSON serializable"):
        cli(*line, "--method", "mse", "--overwrite", out=own)
    assert not (own / "result.json").exists(), "which told of other files"
    assert (own / "model.safetensors").read_bytes() != before


@pytest.mark.parametrize("failing", [1, 2])
def test_a_file_that_cannot_be_moved_is_told_and_all_stay(
    cli: Cli, own: Path, line: list[str], monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    before = state(own)
    calls, replace = [], os.replace

    def deny_once(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == failing:
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", deny_once)
    ran = cli(*line, "--overwrite", out=own)
    assert (ran.code, f"cannot replace the results in '{own}' (Permission denied)" in ran.err) == (2, True)
    assert state(own) == before


def test_an_interrupted_overwriting_is_resumed_by_the_line_it_prints(
    cli: Cli, own: Path, line: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("yoloqat.cli.calibrate.save_checkpoint", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        ran = cli(*line, "--method", "mse", "--overwrite", out=own)
    assert ran.code == 130
    typed = shlex.split(ran.err.strip().rpartition("go on with: yoloqat ")[2])
    assert "--overwrite" not in typed
    assert cli(*typed, out=own).code == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "holds a result.json that cannot be read (Expecting property name"),
        ("", "holds a result.json that cannot be read (Expecting value"),
        (b"\xff\xfe", "holds a result.json that cannot be read ('utf-8' codec"),
        ("[" * 100_000, "holds a result.json that cannot be read (maximum recursion depth"),
        ("[1]", "holds a result.json with the schema null; expected one with"),
        ('{"schema": {"name": "other"}}', 'holds a result.json with the schema {"name": "other"}; expected one with'),
        (
            '{"schema": {"name": "yoloqat/result", "version": 9}, "command": "eval"}',
            'holds a result.json with the schema {"name": "yoloqat/result", "version": 9}; expected one with',
        ),
        ('{"schema": {"name": "yoloqat/result", "version": 1}, "command": 3}', "holds a result.json with the schema"),
        (
            '{"schema": {"name": "yoloqat/result", "version": 1}, "command": "calibrate", "provenance": {"yoloqat": "0.1.0"}}',
            "holds results of yoloqat 0.1.0 that do not tell their settings; expected those of the same settings",
        ),
        (
            '{"schema": {"name": "yoloqat/result", "version": 1}, "command": "calibrate", "provenance": 1}',
            "holds results of yoloqat None that do not tell",
        ),
    ],
)
def test_a_result_of_unknown_settings_is_refused_and_may_be_replaced(
    cli: Cli, line: list[str], tmp_path: Path, content: str | bytes, told: str
) -> None:
    out = tmp_path / "results"
    out.mkdir()
    (out / "result.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(cli(*line, out=out), f"'{out}' {told}")
    assert cli(*line, "--overwrite", out=out).code == 0


def test_options_that_a_version_lacks_count_where_they_are_not_the_default(
    cli: Cli, own: Path, line: list[str]
) -> None:
    path = own / "result.json"
    former = json.loads(path.read_text())
    arguments = former["provenance"]["arguments"]
    del arguments["--affine"]
    arguments |= {"--gone": None, "--never": False}
    path.write_text(json.dumps(former))
    refused(cli(*line, "--curve", "1,3", "--affine", out=own), "made with --affine false; expected true")
    arguments["--old"] = 5
    path.write_text(json.dumps(former))
    refused(cli(*line, "--curve", "1,3", out=own), "made with --old 5; expected none, as this run has;")
    del arguments["--old"]
    path.write_text(json.dumps(former))
    assert cli(*line, "--curve", "1,3", out=own).code == 0


def test_the_files_of_a_line_are_hashed_once(
    cli: Cli, tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, read = tmp_path / "lint", list[Path]()
    monkeypatch.setattr(folder, "file_sha256", lambda path: read.append(path) or file_sha256(path))
    for expected in ([tiny_onnx], [tiny_onnx] * 2):
        assert cli("lint", tiny_onnx, out=out).code == 0
        assert read == expected


def test_a_scan_goes_on_with_another_budget(
    cli: Cli, tiny_checkpoint: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    few = ("--granularity", "block", "--batch", 2)
    scan = ("sensitivity", tiny_checkpoint, "--data", tiny_data.yaml, *few, "--top", 3)
    out = tmp_path / "scan"
    assert cli(*scan, "--budget", 0.4, out=out).code == 0
    ran = cli(*scan, "--budget", 0.5, out=out)
    assert (ran.code, ran.result["results"]["adaptive"]["budget"]) == (0, 0.5)
    refused(cli(*scan, "--mode", "one-at-a-time", out=out), "--mode 'leave-one-out'; expected 'one-at-a-time'")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_names_its_files_inside_the_directory(name: str) -> None:
    for file in COMMANDS[name].load().files:
        assert Path(file).name == file


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("", "argument --out: '' names no directory; expected one; for the current directory type ."),
        ("  ", "argument --out: '  ' names no directory"),
        ("a\0b", "argument 'a\\x00b' holds a NUL character; expected text; leave it out"),
        ("d" * 5000, "ddd', which cannot be reached (File name too long); expected a possible path"),
    ],
)
def test_a_directory_that_cannot_be_is_one_line(
    tiny_model: Path, out: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = main(["inspect", str(tiny_model), "--out", out])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert (code, captured.out, len(captured.err.splitlines())) == (2, "", 1)
    assert told in captured.err


def test_the_same_line_writes_the_same_checkpoint_so_that_what_follows_may_be_run_again(
    cli: Cli, line: list[str], own: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        assert cli(*line, "--curve", "1,3", out=own).code == 0
        ran = cli("export", own / "model.safetensors", out=tmp_path / "export")
        assert ran.code == 0, ran.err
