"""A recipe survives its file, and whatever is wrong with one is told in a line."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from yoloqat.config import CalibrationConfig, MethodSpec, QuantConfig, Recipe
from yoloqat.errors import ConfigError

RECIPE = Recipe(
    {"path": "a.pt", "sha256": "0" * 64},
    QuantConfig(target="openvino", ignore=("model.22",)),
    CalibrationConfig(MethodSpec("percentile", 99.9), images=7, seed=3),
    (96, 160),
    float_layers=("model.0.conv", "model.1.conv"),
    images_digest="abc",
    refine=("bias",),
    training={"epochs": 2, "learn_amax": True},
    measured={"d": 0.1, "d_ci95": [0.05, 0.15], "drop": float("nan")},
)


def test_there_and_back_through_a_file(tmp_path):
    RECIPE.save(tmp_path / "recipe.yaml")
    again = Recipe.load(tmp_path / "recipe.yaml")
    assert again == replace(RECIPE, measured={"d": 0.1, "d_ci95": [0.05, 0.15], "drop": None})
    assert again.quant.ignore == ("model.22", "model.0.conv", "model.1.conv")
    assert again.quant.target == "openvino"
    assert [file.name for file in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": {"name": "yoloqat/recipe", "version": 2}}, "schema of the recipe is .*2.*expected .* version 1"),
        ({"colour": 1}, "unknown keys of the recipe is 'colour'"),
        ({"model": {"path": "a.pt"}}, r"model of the recipe is \{'path': 'a.pt'\}; expected its path and sha256"),
        ({"float_layers": "model.0"}, "float_layers of the recipe is 'model.0'"),
        ({"float_layers": [3]}, r"float_layers of the recipe is \(3,\)"),
        ({"imgsz": "wide"}, "imgsz is 'wide'"),
        ({"batch": 0}, "batch of the recipe is 0"),
        ({"images_digest": 5}, "images_digest of the recipe is 5"),
        ({"quantization": None}, "settings are None; expected a dict of QuantConfig"),
        ({"measured": [1]}, r"measured of the recipe is \[1\]"),
    ],
)
def test_an_unfit_recipe_is_refused_in_a_line(tmp_path, change, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE.to_dict() | change), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"recipe '.*recipe.yaml': {message}"):
        Recipe.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", r"content of the recipe is \[1\]"),
        ("a: [", "cannot be read .*line 1"),
        ("a: 1\na: 2", "cannot be read .*it holds a twice"),
        ("!!python/object:os.system {}", "cannot be read"),
    ],
)
def test_what_is_no_recipe_is_refused_in_a_line(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        Recipe.load(path)


def test_a_missing_recipe_and_a_missing_key_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"recipe '.*none.yaml' cannot be read \(No such file"):
        Recipe.load(tmp_path / "none.yaml")
    data = RECIPE.to_dict()
    del data["imgsz"]
    with pytest.raises(ConfigError, match="missing keys of the recipe is 'imgsz'"):
        Recipe.from_dict(data)
