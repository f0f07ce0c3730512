"""The search from the command line: its files, its exit codes, and what does not fit."""

from __future__ import annotations

import pytest

from yoloqat.cli import search as command
from yoloqat.config import CalibrationConfig, QuantConfig, Recipe


class _Found:
    """What a search finds, without one."""

    def __init__(self, met: bool) -> None:
        self.met = met
        self.results = {"float_layers": ["model.0.conv"], "d": 0.1, "frontier": []}
        self.recipe = Recipe({"path": "a.pt", "sha256": "0" * 64}, QuantConfig(), CalibrationConfig(), 64)


@pytest.fixture
def found(monkeypatch):
    """Let searches find something at once; returns what they were asked for."""
    asked = []

    def make(met=True):
        monkeypatch.setattr(command, "run_search", lambda *given, **more: (asked.append((given, more)), _Found(met))[1])
        monkeypatch.setattr(command, "search_table", lambda found: command.search_table)
        monkeypatch.setattr(command, "draw", lambda found, out: None)
        monkeypatch.setattr(command, "search_table", _table)
        return asked

    return make


def _table(found):
    from yoloqat.results import Table

    return Table("sets", ("float layers",), (("1",),))


def test_it_writes_the_recipe_and_says_what_to_type_next(cli, found, tiny_checkpoint, tiny_data):
    asked = found()
    ran = cli("search", tiny_checkpoint, "--data", tiny_data.yaml, "--max-noise", "0.2", "--fidelity-images", "6")
    assert ran.code == 0, ran.err
    assert Recipe.load(ran.directory / "recipe.yaml").imgsz == 64
    assert ran.result["results"]["float_layers"] == ["model.0.conv"]
    ((given, more),) = asked
    assert len(given[1]) == 6
    assert more["search"].goal == ("max_noise", 0.2)
    assert "next: yoloqat calibrate" in ran.out.replace("\n", " ")
    assert "recipe.yaml" in ran.out


def test_a_goal_that_is_not_kept_ends_with_1(cli, found, tiny_checkpoint, tiny_data):
    found(met=False)
    ran = cli("search", tiny_checkpoint, "--data", tiny_data.yaml, "--max-latency", "0.001")
    assert ran.code == 1
    assert "no float set keeps to --max-latency 0.001; the nearest is in recipe.yaml" in ran.err


def test_profiles_of_two_engines_are_read_by_their_content(cli, found, tiny_checkpoint, tiny_data, tmp_path):
    asked = found(met=False)
    files = [tmp_path / name for name in ("layers.json", "times.json", "float.log")]
    for file in files:
        file.write_text(file.name, encoding="utf-8")
    line = ["search", tiny_checkpoint, "--data", tiny_data.yaml, "--max-latency", 5, "--out", tmp_path / "out"]
    profiles = ["--int8-profile", *files[:2], "--float-profile", files[2]]
    ran = cli(*line, *profiles)
    assert ran.code == 1
    assert "no float set keeps to --max-latency 5, by the latency that the profiles predict" in ran.err
    given = asked[0][1]["profiles"]
    assert ([*given.int8], [*given.floating]) == (files[:2], files[2:])
    assert ran.result["provenance"]["inputs"]["profiles"] == given.to_dict()
    files[2].write_text("of another engine", encoding="utf-8")
    ran = cli(*line, *profiles)
    assert ran.code == 2
    assert "holds results made with --float-profile" in ran.err
    ran = cli(*line, *profiles[:3])
    assert ran.code == 2
    assert f"int8_profile is '{files[0]}' and float_profile is not named; expected profiles of both engines" in ran.err
    assert "name --float-profile too" in ran.err


def test_one_goal_is_asked_for_and_a_budget_that_is_one(cli, found, tiny_checkpoint, tiny_data, tmp_path):
    found()
    ran = cli("search", tiny_checkpoint, "--data", tiny_data.yaml)
    assert ran.code == 2
    assert "no goal is named; expected one of --max-drop, --max-noise and --max-latency; name one" in ran.err
    text = '{"schema": {"name": "yoloqat/result", "version": 1}, "command": "eval", "results": {}}'
    (tmp_path / "result.json").write_text(text, encoding="utf-8")
    ran = cli("search", tiny_checkpoint, "--data", tiny_data.yaml, "--max-noise", "1", "--budget", tmp_path)
    assert ran.code == 2
    assert "holds results of `yoloqat eval`; expected those of `yoloqat sensitivity`" in ran.err
