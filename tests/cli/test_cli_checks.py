"""Every number that an option takes: what is absurd is one line, before any work."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from yoloqat.cli import main
from yoloqat.cli.checks import RANGES, out_of_range
from yoloqat.cli.commands import COMMANDS
from yoloqat.cli.main import _command_parser
from yoloqat.engines.tensorrt.options import LEVELS


def commands():
    """Each command with its parser."""
    return {name: _command_parser(entry.load()) for name, entry in COMMANDS.items()}


def numeric(parser):
    known = (
        action for action in parser._actions if action.help != argparse.SUPPRESS
    )  # former names are told as the new
    return [action for action in known if action.type in (int, float) or action.dest == "imgsz"]


CASES = [
    (name, action.option_strings[-1], action.dest, action.type)
    for name, parser in commands().items()
    for action in numeric(parser)
]


def test_every_numeric_option_of_every_command_has_a_range():
    assert len(CASES) > 60
    assert {dest for _, _, dest, _ in CASES} == set(RANGES)
    assert RANGES["opt_level"] == LEVELS


@pytest.mark.parametrize("name", sorted(commands()))
def test_absurd_numbers_are_one_line_before_any_work(name, capsys, tmp_path):
    positional = {
        "data": ["coco-val2017"],
        "demo": [],
        "diff": ["float.pt", "missing.pt"],
        "predict": ["m.pt", "x.jpg"],
    }.get(name, [str(tmp_path / "missing.pt")])
    for command, option, dest, kind in CASES:
        if command != name:
            continue
        low, high = RANGES[dest]
        values = [low - 1, high + 1, -(10**12), 10**12, 2**70, 2147483648 if high < 2147483648 else 2**64]
        values += ["nan", "inf", "-inf", "1e400"] if kind is float else []
        for value in values:
            with pytest.raises(SystemExit) as stop:
                main([name, *positional, f"{option}={value}", "--out", str(tmp_path / "out")])
            told = capsys.readouterr().err
            assert (stop.value.code, told.count("\n")) == (2, 1), (option, value)
            shown = kind(value) if kind is float else value
            assert told.startswith(f"yoloqat {name}: {option} is {shown}; expected "), told
        for value in ("abc", "", "1.5.2", "9" * 5000, "0x10"):
            with pytest.raises(SystemExit) as stop:
                main([name, *positional, f"{option}={value}", "--out", str(tmp_path / "out")])
            told = capsys.readouterr().err
            assert (stop.value.code, told.count("\n")) == (2, 1), (option, value)
            assert option in told
    assert not (tmp_path / "out").exists()


def test_the_ends_of_a_range_are_inside():
    for dest, (low, high) in RANGES.items():
        action = argparse.Action([f"--{dest}"], dest, type=float)
        for value in (low, high, None, (low, high)):
            assert out_of_range([action], argparse.Namespace(**{dest: value})) is None
        told = out_of_range([action], argparse.Namespace(**{dest: (low, high + 1)}))
        assert told == f"--{dest} is {high + 1}; expected a number from {low} to {high}"


@pytest.mark.parametrize("device", ["9" * 30, "9" * 5000, "cuda:" + "9" * 5000, "-1", "", "gpu", "\u0664"])
def test_absurd_devices_are_one_line(cli, tiny_model, device):
    found = cli("inspect", tiny_model, f"--device={device}")
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert re.search(f"device is '{device[:20]}", found.err)


@pytest.mark.parametrize("curve", ["", "1,", "-1", "1,x", "9" * 5000, "1e3", "2,1", "0"])
def test_absurd_curves_are_one_line(cli, tiny_model, tiny_data, curve):
    found = cli("calibrate", tiny_model, "--calib-images-dir", tiny_data.train, "--calib-images", 4, f"--curve={curve}")
    assert found.code == 2
    assert re.match("yoloqat calibrate: (curve is|numbers of calibration images are) ", found.err.splitlines()[-1])
    assert not (found.directory / "result.json").exists()


@pytest.mark.parametrize(
    "rate", ["nan", "inf", "-1", "0", "1e400", "x", "0:1e-6,6:nan", "0:1e-6," + "9" * 5000 + ":1", ""]
)
def test_absurd_learning_rates_are_one_line(cli, tiny_checkpoint, labelled, rate):
    found = cli("finetune", tiny_checkpoint, "--data", labelled, "--supervise", 1, f"--lr0={rate}")
    assert (found.code, found.err.count("\n")) == (2, 1), found.err
    assert "learning rate" in found.err


@pytest.mark.parametrize(
    "method", ["percentile-nan", "percentile-1e400", "percentile-0", "percentile--5", "percentile-101"]
)
def test_absurd_percentiles_are_one_line(cli, tiny_model, tiny_data, method):
    found = cli("calibrate", tiny_model, "--calib-images-dir", tiny_data.train, "--method", method)
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert "percentile is " in found.err


@pytest.mark.parametrize("name", sorted(commands()))
def test_paths_that_cannot_be_looked_for_are_one_line(name, capsys):
    too_long = "x" * 5000
    positional = {"data": ["coco-val2017"], "demo": [], "diff": ["float.pt", "m.pt"], "predict": ["x.pt", "m.pt"]}.get(
        name, ["m.pt"]
    )
    lines = [[name, *positional, f"{option}={too_long}"] for option in paths(commands()[name])]
    for line in [*lines, *([[name, *positional[:-1], too_long]] if positional[-1:] == ["m.pt"] else [])]:
        with pytest.raises(SystemExit) as stop:
            main(line)
        told = capsys.readouterr().err
        assert (stop.value.code, told.count("\n")) == (2, 1)
        assert f" is '{'x' * 120}', which cannot be reached (File name too long)" in told
        assert len(told) < 300


def paths(parser):
    return [action.option_strings[-1] for action in parser._actions if action.type is Path and action.option_strings]
