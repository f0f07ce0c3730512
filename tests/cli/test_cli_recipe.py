"""A recipe makes the same checkpoint and the same file again, and says what does not fit it."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from yoloqat.cli import finetune, options
from yoloqat.config import EvalConfig, Recipe
from yoloqat.detectors import load_detector
from yoloqat.detectors.leave_float import leave_float
from yoloqat.errors import ConfigError, ModelError
from yoloqat.pipeline.recipe import check_images, check_made_by, check_model, recipe_of
from yoloqat.pipeline.run import Run


@pytest.fixture(scope="module")
def recipe(tiny_checkpoint, tmp_path_factory) -> Recipe:
    """Of the tiny detector with its first layer and all that share its scale float."""
    detector = load_detector(tiny_checkpoint)
    run = Run(tmp_path_factory.mktemp("recipe"), torch.device("cpu"), 1)
    return recipe_of(detector, EvalConfig(imgsz=64), run=run, float_layers=detector.quantization.layers[:1])


@pytest.fixture
def recipe_file(recipe, tmp_path):
    recipe.save(tmp_path / "recipe.yaml")
    return tmp_path / "recipe.yaml"


def test_calibrate_makes_what_the_search_measured(cli, recipe_file, recipe, tiny_model, tiny_checkpoint, tiny_data):
    ran = cli("calibrate", tiny_model, "--recipe", recipe_file, "--calib-images-dir", tiny_data.train, "--no-eval")
    assert ran.code == 0, ran.err
    made = load_detector(ran.directory / "model.safetensors")
    searched = leave_float(load_detector(tiny_checkpoint), recipe.float_layers)
    assert made.quantization.config == searched.quantization.config == recipe.quant
    assert made.quantization.placement == searched.quantization.placement
    check_made_by(recipe, made)
    ours, theirs = load_file(ran.directory / "model.safetensors"), searched.module.state_dict()
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def test_an_option_that_the_recipe_decides_is_refused(cli, recipe_file, tiny_model, tiny_data):
    arguments = ["--recipe", recipe_file, "--calib-images-dir", tiny_data.train, "--no-eval", "--method", "max"]
    ran = cli("calibrate", tiny_model, *arguments)
    assert ran.code == 2
    assert "method is 'max' and the recipe" in ran.err
    assert "says 'mse'; expected one of them; leave --method or --recipe out" in ran.err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--target", "openvino"), "target is 'openvino' and the recipe"),
        (("--refine", "bias"), "refine is 'bias' and the recipe"),
        (("--no-depthwise",), "depthwise is False and the recipe"),
    ],
)
def test_what_the_recipe_says_none_of_is_refused_too(cli, recipe_file, tiny_model, tiny_data, given, told):
    ran = cli("calibrate", tiny_model, "--recipe", recipe_file, "--calib-images-dir", tiny_data.train, *given)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert told in ran.err
    assert "none" in ran.err.partition("says ")[2].partition(";")[0]


def test_finetune_trains_as_the_recipe_says(recipe, tmp_path):
    training = {"supervise": 1, "epochs": 3, "lr0": 1.0e-05, "batch": 2}
    replace(recipe, training=training).save(tmp_path / "recipe.yaml")
    parser = argparse.ArgumentParser()
    finetune._arguments(parser)
    args = parser.parse_args(["model.safetensors", "--recipe", str(tmp_path / "recipe.yaml"), "--epochs", "3"])
    args.command, args.parser, args.device = "finetune", parser, "cpu"
    options.take_recipe(args)
    config = finetune._trainer(args, None, EvalConfig(imgsz=64, batch=args.batch), ()).config
    assert (config.stride, config.epochs, config.rates, config.batch) == (1, 3, ((0, 1e-5),), 2)
    args.epochs = 4
    with pytest.raises(ConfigError, match=r"epochs is 4 and the recipe '.*' says 3; expected one of them"):
        options.take_recipe(args)


def test_export_refuses_a_checkpoint_that_the_recipe_did_not_make(cli, recipe_file, tiny_checkpoint):
    ran = cli("export", tiny_checkpoint, "--recipe", recipe_file)
    assert ran.code == 2
    assert "the ignore list of the checkpoint is []; expected ['model.0.conv'], as the recipe says" in ran.err
    assert "calibrate with --recipe" in ran.err or "calibrate with recipe" in ran.err


def test_other_images_and_another_model_are_told(recipe, tiny_checkpoint, tiny_model, dataset_records):
    detector = load_detector(tiny_checkpoint)
    with pytest.raises(ConfigError, match=r"the 2 calibration images have the digest [0-9a-f]{16}; expected"):
        check_images(recipe, dataset_records[:2])
    check_images(replace(recipe, images_digest=None), dataset_records)
    with pytest.raises(ConfigError, match=r"is another model than that of the recipe \('other.pt'\)"):
        check_model(replace(recipe, model={"path": "other.pt", "sha256": "0" * 64}), detector)
    with pytest.raises(ModelError, match=r"'.*\.pt' is not calibrated; expected what the recipe calibrates"):
        check_made_by(recipe, load_detector(tiny_model))
    with pytest.raises(ModelError, match=r"'.*\.pt' is not calibrated; expected a calibrated detector"):
        recipe_of(load_detector(tiny_model), EvalConfig(imgsz=64), run=Run(tiny_model.parent, torch.device("cpu"), 1))
    with pytest.raises(ModelError, match=r"'.*\.pt' is not quantized; expected a calibrated detector"):
        leave_float(load_detector(tiny_model), [])


@pytest.fixture
def dataset_records(tiny_data):
    from yoloqat.datasets import load_dataset

    return load_dataset(tiny_data.yaml).images
