"""What a command says to type next works, with everything that it was given and the next one needs."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_detector import TinyData

from yoloqat.cli.command import Command
from yoloqat.cli.commands import COMMANDS
from yoloqat.cli.demo import LINES
from yoloqat.cli.main import parsed
from yoloqat.cli.next_line import next_line
from yoloqat.pipeline import noise_budget

Cli = Callable[..., Any]
FEW_ROUNDS = ("--rounds", 3, "--warmup", 1)


def following(ran: Any) -> list[str]:
    """Return the words after `yoloqat` of the line to type next."""
    assert ran.code == 0, ran.err
    (line,) = [text for text in ran.out.splitlines() if text.startswith("next: ")]
    return shlex.split(line.removeprefix("next: yoloqat "))


def out_of(words: list[str]) -> Path:
    return Path(words[words.index("--out") + 1])


def asked(ran: Any) -> dict[str, Any]:
    found: dict[str, Any] = ran.result["provenance"]["arguments"]
    return found


def test_the_lines_lead_from_the_comparison_to_the_times(
    cli: Cli, tiny_model: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    images = tmp_path / "the user's images"
    images.symlink_to(tiny_data.images)
    (tmp_path / "float.txt").write_text("model.0\n")
    data = ("--images", images, "--annotations", tiny_data.annotations, "--calib-images-dir", tiny_data.train)
    given = ("--calib-images", 3, "--imgsz", 96, "--batch", 5, "--nms-iou", 0.6, "--seed", 1, "--adds", "both")
    ignored = ("--ignore", f"@{tmp_path / 'float.txt'}", "--ignore", "model.2.*", "--weight-method", "mse", "--affine")
    ran = cli("compare", tiny_model, *data, *given, *ignored, "--methods", "max", out=tmp_path / "my runs" / "compare")
    first = asked(ran)
    for command, kept in (
        ("calibrate", first.keys() - {"--methods", "MODEL"}),
        ("export", {"--images", "--annotations", "--imgsz", "--nms-iou", "--threads"}),
        ("build", {"--images", "--annotations", "--imgsz", "--nms-iou", "--threads"}),
        ("bench", {"--imgsz", "--threads"}),
    ):
        words = following(ran)
        assert (words[0], out_of(words)) == (command, tmp_path / "my runs" / command)
        ran = cli(*words, *(FEW_ROUNDS if command == "bench" else ()), out=out_of(words))
        assert ran.code == 0, ran.err
        now = asked(ran)
        assert {name: now[name] for name in kept} == {name: first[name] for name in kept}
    assert [item["batch"] for item in ran.result["results"]["items"]] == [1, 1, 1]
    assert "next: " not in ran.out


def test_a_height_and_width_go_on_as_two_numbers(cli: Cli, tiny_checkpoint: Path, tmp_path: Path) -> None:
    words = following(cli("export", tiny_checkpoint, "--imgsz", 64, 96, out=tmp_path / "export"))
    place = words.index("--imgsz")
    assert (words[place : place + 3], words.count("--imgsz")) == (["--imgsz", "64", "96"], 1)
    assert cli(*words, out=out_of(words)).code == 0


def test_the_bench_takes_the_batch_of_the_file(cli: Cli, tiny_checkpoint: Path, tmp_path: Path) -> None:
    built = cli(*following(cli("export", tiny_checkpoint, "--batch", 2, out=tmp_path / "a")), out=tmp_path / "b")
    words = following(built)
    assert words[-2:] == ["--out", str(tmp_path / "b-bench")]
    ran = cli(*words, "--rounds", 1, out=tmp_path / "c")
    assert [item["batch"] for item in ran.result["results"]["items"]] == [2, 2, 2]


@pytest.mark.parametrize("options", [("--bits", 6), ("--bits", 4, "--affine")])
def test_no_export_is_proposed_of_what_no_engine_runs(
    cli: Cli, tiny_model: Path, tiny_data: TinyData, options: tuple[object, ...]
) -> None:
    line = ("--calib-images-dir", tiny_data.train, "--calib-images", 2, "--no-eval", "--method", "max")
    ran = cli("calibrate", tiny_model, *line, *options)
    assert (ran.code, "next: " in ran.out) == (0, False)


def test_a_fine_tuned_checkpoint_is_exported_where_an_engine_runs_it(
    cli: Cli, tiny_model: Path, tiny_checkpoint: Path, tiny_data: TinyData, labelled: Path, tmp_path: Path
) -> None:
    six = tmp_path / "six"
    line = ("--calib-images-dir", tiny_data.train, "--calib-images", 2, "--no-eval", "--method", "max", "--bits", 6)
    assert cli("calibrate", tiny_model, *line, out=six).code == 0
    tune = ("--data", labelled, "--epochs", 1, "--supervise", 3, "--batch", 5)
    ran = cli("finetune", six / "model.safetensors", *tune, out=tmp_path / "tuned six")
    assert (ran.code, "next: " in ran.out) == (0, False)
    words = following(cli("finetune", tiny_checkpoint, *tune, out=tmp_path / "tuned"))
    assert "--batch" not in words, "which would be the file's"
    assert out_of(words) == tmp_path / "tuned-export"
    assert cli(*words, out=out_of(words)).code == 0


@pytest.mark.parametrize("calibrated_before", [True, False])
def test_a_scan_says_how_to_calibrate_as_before_without_its_ignore_list(
    cli: Cli,
    tiny_model: Path,
    tiny_data: TinyData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    calibrated_before: bool,
) -> None:
    monkeypatch.setattr(noise_budget, "knee", lambda _points: 1)  # one block is worth it
    data = ("--data", tiny_data.yaml, "--batch", 5)
    calibration = ("--calib-images", 3, "--method", "percentile-99.9", "--quantize-head", "--ignore", "model.0")
    scan = ("--granularity", "block", "--top", 1)
    if calibrated_before:
        cli("calibrate", tiny_model, *data, *calibration, "--bits", 6, "--no-eval", out=tmp_path / "six")
        ran = cli("sensitivity", tmp_path / "six" / "model.safetensors", *data, *scan, out=tmp_path / "scan")
    else:
        ran = cli("sensitivity", tiny_model, *data, *scan, *calibration, "--base-bits", 6, out=tmp_path / "scan")
    words = following(ran)
    assert out_of(words) == tmp_path / "scan-calibrate"
    ran = cli(*words, out=out_of(words))
    made = asked(ran)
    assert [made[name] for name in ("--bits", "--method", "--calib-images", "--quantize-head", "--batch")] == [
        *(6, "percentile-99.9", 3, True, 5)
    ]
    ignored = ran.result["config"]["quantization"]["ignore"]
    assert (ignored[0], len(ignored) > 1) == ("model.0", True)


def test_inspect_says_how_to_compare(cli: Cli, tiny_model: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    words = following(cli("inspect", tiny_model, "--imgsz", 96, "--depthwise", out=tmp_path / "inspect"))
    assert words[words.index("--data") + 1] == "DATA.yaml"
    words[words.index("--data") + 1] = str(tiny_data.yaml)
    ran = cli(*words, "--methods", "max", "--calib-images", 2, out=out_of(words))
    assert ran.code == 0, ran.err
    assert [asked(ran)[name] for name in ("--imgsz", "--depthwise")] == [96, True]


@pytest.mark.parametrize("line", LINES)
def test_the_lines_of_the_demo_are_of_this_version(line: str) -> None:
    program, *words = shlex.split(line)
    assert program == "yoloqat"
    parsed(words)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model")
    parser.add_argument("--imgsz", type=int, nargs="+", default=None)
    parser.add_argument("--ignore", action="append", default=[])
    parser.add_argument("--rect", action="store_true")
    parser.add_argument("-l", "--lr0", type=float, default=1.0)


TARGET = Command("target", "doc", _arguments, lambda args, run: pytest.fail("run"))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", ""),
        ("--imgsz 96", "--imgsz 96"),
        ("--imgsz 96 64", "--imgsz 96 64"),
        ("--ignore a --ignore=-b --rect", "--ignore a --ignore=-b --rect"),
        ("--lr0=-2", "--lr0=-2.0"),
        ("--device 1,2 --threads 3", "--device 1 --threads 3"),
        ("--out runs/source", "--out runs/target"),
        ("--out runs/mine", "--out runs/mine-target"),
        ("--out .", "--out target"),
        ("--out ..", "--out ../target"),
        ("--out 'a b/c'", "--out 'a b/c-target'"),
        ("--unknown 5 --json - --debug --overwrite", ""),
    ],
)
def test_a_line_has_what_was_typed_and_is_known_there(typed: str, words: str) -> None:
    parser = argparse.ArgumentParser()
    _arguments(parser)
    parser.add_argument("--unknown")
    for name in ("--device", "--out", "--json"):
        parser.add_argument(name, type=Path if name == "--out" else str)
    parser.add_argument("--threads", type=int)
    for name in ("--debug", "--overwrite"):
        parser.add_argument(name, action="store_true")
    parser.set_defaults(parser=parser, command="source")
    args = parser.parse_args(["m.pt", *shlex.split(typed)])
    assert next_line(args, TARGET, "it's.pt") == f"""yoloqat target 'it'"'"'s.pt' {words}""".strip()


def test_a_line_is_told_to_leave_out_or_to_give_a_value() -> None:
    parser = argparse.ArgumentParser()
    _arguments(parser)
    parser.set_defaults(parser=parser, command="source", device="cpu", threads=None, out=None)
    args = parser.parse_args(["m.pt", "--rect", "--lr0", "2"])
    assert next_line(args, TARGET, without=("rect",), lr0=3.0) == "yoloqat target --lr0 3.0"
    assert next_line(args, TARGET, lr0=1.0, ignore=[]) == "yoloqat target --rect"


def test_every_command_takes_the_options_of_a_run() -> None:
    for name in COMMANDS:
        words = [name, "--threads", "1", "--device", "cpu", "--out", "x", "--overwrite"]
        two = {"diff": ["float.pt", "coco-val2017"], "gpu-kit": ["m.pt", "--data", "coco.yaml"]}
        places = {"demo": [], "predict": ["m.pt", "coco-val2017"], **two}.get(name, ["coco-val2017"])
        known = parsed([*words, *places])[1]
        assert (known.threads, known.overwrite, known.out) == (1, True, Path("x"))
