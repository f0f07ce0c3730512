"""A search leaves float what makes the noise, tells what it measured, and reproduces it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from trt_profiles import Ran, reformat, written

from yoloqat.config import EvalConfig, Recipe
from yoloqat.datasets import load_dataset
from yoloqat.detectors import load_detector, save_checkpoint
from yoloqat.errors import ConfigError
from yoloqat.pipeline import search as search_module
from yoloqat.pipeline import search_engines
from yoloqat.pipeline.noise_mode import run_noise_budget
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.search import BUDGET, budget_figures, divided, largest_noise, open_searched, run_search
from yoloqat.pipeline.search_engines import TABLE
from yoloqat.pipeline.search_table import CHART, draw, search_table
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.quant import state_digest
from yoloqat.searching import FloatSet
from yoloqat.searching.profiles import ProfileFiles
from yoloqat.searching.settings import SearchConfig
from yoloqat.sensitivity.settings import NOISE, ScanConfig

CONFIG = EvalConfig(imgsz=64, batch=4)
PLANTED = ("model.1.conv", "model.2.cv2.conv", "model.3.conv", "model.9.cv3.0.1.conv")
TIED = {*PLANTED, "model.2.m.0.cv1.conv"}
"""What reads a tensor of one scale with a planted layer goes with it."""


@pytest.fixture(scope="module")
def planted(tiny_checkpoint, tmp_path_factory):
    """The tiny detector at 8 bits for ONNX Runtime, four of whose weights have steps 40 times too large."""
    detector = load_detector(tiny_checkpoint)
    for name in PLANTED:
        detector.module.get_submodule(name)._weight_quantizer.amax.mul_(40.0)
    return _saved(detector, "onnxruntime", tmp_path_factory.mktemp("planted") / "model.safetensors")


def _saved(detector, target, path):
    """Save a detector as one for a target; of the engine of ONNX Runtime latencies are estimated, the same on every machine."""
    config = replace(detector.quantization.config, target=target)
    detector.quantization = replace(detector.quantization, config=config)
    save_checkpoint(detector, path)
    return path


@pytest.fixture(scope="module")
def images(tiny_data):
    return load_dataset(tiny_data.yaml).images


@pytest.fixture(scope="module")
def budget(planted, images, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("budget"), torch.device("cpu"), 1)
    return run_noise_budget(planted, images[::2], CONFIG, scan=ScanConfig(mode=NOISE), options=ScanOptions(), run=run)


@pytest.fixture(scope="module")
def limit(budget):
    """A noise that the others alone stay within, and no planted layer does."""
    alone = {item["name"]: item["d"] for item in budget["items"]}
    others = math.sqrt(sum(d * d for name, d in alone.items() if name not in TIED))
    least = min(alone[name] for name in PLANTED)
    assert least > others, alone
    return 1.2 * others


@pytest.fixture(scope="module")
def found(planted, images, budget, limit, tiny_data, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("search"), torch.device("cpu"), 1)
    search = SearchConfig(max_noise=limit, built=2, rounds=2)
    result = run_search(
        open_searched(planted, run),
        images,
        CONFIG,
        search=search,
        run=run,
        budget=budget,
        dataset=load_dataset(tiny_data.yaml),
    )
    return result, run


def test_four_planted_layers_and_what_shares_a_scale_with_them_stay_float(found, limit):
    result, _ = found
    assert set(result.results["float_layers"]) == TIED
    assert result.met
    assert result.results["d_choosing"] <= limit < result.results["frontier"][0]["d_choosing"]
    assert result.results["d"] < result.results["frontier"][0]["d"]


def test_the_results_tell_predicted_and_measured_figures(found, images):
    result, run = found
    results = result.results
    assert 0.0 < results["int8_mac_share"] < 1.0
    assert (results["latency_ms"], results["latency_source"]) == (None, "multiply-adds")
    first, *_, last = (row["latency_predicted_ms"] for row in results["frontier"])
    assert 0.0 < first < results["latency_predicted_ms"] < last
    assert (results["choosing_images"], results["confirming_images"]) == (len(images[::2]), len(images[1::2]))
    assert results["evaluated_images"] == len(images) - len(images[::2])
    low, high = results["drop_ci95"]
    assert low <= results["drop"] <= high
    assert results["drop"] == pytest.approx(results["map_float"] - results["map50_95"])
    assert results["frontier"][0]["float_layers"] == []
    assert results["frontier"][-1]["d"] < 1e-3  # everything that makes noise is float
    assert sorted(map(sorted, results["tied_layers"]))[0] == ["model.2.cv2.conv", "model.2.m.0.cv1.conv"]
    json.dumps(results, allow_nan=False)
    lines = str(search_table(result)).splitlines()
    assert "layers left float" in lines[0]
    assert [line for line in lines[:-1] if len(line) > 80] == [], "the caption folds, the table fits a terminal"
    assert f"keeps to a noise d of at most {results['goal']['max_noise']:g}, drop" in lines[-1]
    draw(result, run.out)
    assert (run.out / CHART).stat().st_size > 1000


def test_the_recipe_holds_the_float_layers_and_the_figures(found, planted):
    result, run = found
    result.recipe.save(run.out / "recipe.yaml")
    recipe = Recipe.load(run.out / "recipe.yaml")
    assert set(recipe.float_layers) == TIED
    assert set(recipe.quant.ignore) == TIED
    assert recipe.model["sha256"] == load_detector(planted).source.sha256
    assert recipe.measured["d"] == result.results["d"]
    assert recipe.predicted["latency_ms"] == result.results["latency_predicted_ms"]
    assert recipe.images_digest is not None


DEAR, CHEAP = 5.0, 0.01
"""Milliseconds that a layer takes longer in float; one planted layer is dear, and so are all that are not planted."""
SHAPE = (1, 16, 8, 8)


def _profiles(model, folder):
    """Write profiles of two engines of a model: float costs little where noise was planted, but for the first layer of these."""
    cheap = TIED - {PLANTED[0]}
    extra = {name: CHEAP if name in cheap else DEAR for name in model.layers}
    int8 = [reformat("model.0.conv/input/QuantizeLinear", 0.0, "Float", "Int8", (1, 3, 64, 64))]
    int8 += [Ran(f"{name} + PWN({name}/Sigmoid)", 0.1, shape=SHAPE) for name in model.layers]
    floating = [Ran(f"/{name}/Conv", 0.1 + extra[name], "Half", "Half", SHAPE) for name in model.layers]
    return ProfileFiles.of(written(folder, "int8", int8, 11), written(folder, "float", floating, 8))


@pytest.fixture(scope="module")
def profiled(planted, tmp_path_factory):
    """The planted detector for TensorRT, with profiles of its engines."""
    folder = tmp_path_factory.mktemp("profiled")
    path = _saved(load_detector(planted), "tensorrt", folder / "model.safetensors")
    return path, _profiles(open_searched(path, Run(folder, torch.device("cpu"), 1)), folder)


def test_profiles_say_which_layers_are_worth_their_time(profiled, images, budget, tmp_path):
    path, files = profiled
    run = Run(tmp_path, torch.device("cpu"), 1)
    layers = open_searched(path, run).layers
    search = SearchConfig(max_latency=0.1 * len(layers) + 10 * CHEAP, built=2)
    found = run_search(open_searched(path, run), images, CONFIG, search=search, run=run, budget=budget, profiles=files)
    results = found.results
    assert set(results["float_layers"]) == TIED - {PLANTED[0]}, "the dear one is not, though its noise is large"
    assert (results["met"], results["latency_ms"], results["latency_measured"]) == (True, None, False)
    assert (results["latency_source"], results["border_source"]) == ("tensorrt profile", "tensorrt profile")
    expected = 0.1 * len(layers) + CHEAP * (len(TIED) - 1)
    assert results["latency_predicted_ms"] == pytest.approx(expected)
    assert (results["border_ms"], results["latency_estimated_layers"]) == (0.0, [])
    assert "latency by tensorrt profile, predicted: no engine was timed here" in str(search_table(found))
    kept = json.loads((run.out / TABLE).read_text(encoding="utf-8"))
    assert kept["made_of"]["profiles"] == files.digests()
    draw(found, run.out)
    again = search_engines.Engines(open_searched(path, run), CONFIG, run=run, rounds=1, profiles=files)
    assert again.table().to_dict() == kept


def test_a_latency_that_no_profile_promises_is_not_met(profiled, images, budget, tmp_path):
    path, files = profiled
    run = Run(tmp_path, torch.device("cpu"), 1)
    search = SearchConfig(max_latency=0.5, built=2)
    found = run_search(
        open_searched(path, run), images[:2], CONFIG, search=search, run=run, budget=budget, profiles=files
    )
    assert (found.met, found.results["float_layers"]) == (False, [])


def test_profiles_are_of_engines_of_tensorrt(planted, tiny_checkpoint, profiled, images, budget, tmp_path):
    run, search = Run(tmp_path, torch.device("cpu"), 1), SearchConfig(max_latency=5.0)
    for path, engine in ((planted, "onnxruntime"), (tiny_checkpoint, "openvino")):
        message = (
            f"int8_profile is '.*int8_layers.json' and the engine is '{engine}'; .* calibrate with target=tensorrt"
        )
        with pytest.raises(ConfigError, match=message):
            run_search(open_searched(path, run), images, CONFIG, search=search, run=run, profiles=profiled[1])
    with pytest.raises(ConfigError, match=r"max_latency is 5 and the engine is 'tensorrt', .* name int8_profile and"):
        run_search(open_searched(profiled[0], run), images, CONFIG, search=search, run=run, budget=budget)


def test_an_engine_that_does_not_run_here_keeps_to_no_latency(planted, images, budget, found):
    _, run = found
    assert (run.out / TABLE).exists()
    with pytest.raises(ConfigError, match="max_latency is 5 and the engine is 'onnxruntime'"):
        run_search(
            open_searched(planted, run), images, CONFIG, search=SearchConfig(max_latency=5.0), run=run, budget=budget
        )


def test_a_budget_is_made_where_none_is_given(tiny_checkpoint, images, tmp_path, monkeypatch):
    asked = []

    def stop(checkpoint, records, config, **more):
        asked.append((records, more["run"].out))
        raise KeyboardInterrupt

    monkeypatch.setattr("yoloqat.pipeline.search_torch.run_noise_budget", stop)
    run = Run(tmp_path, torch.device("cpu"), 1)
    with pytest.raises(KeyboardInterrupt):
        run_search(open_searched(tiny_checkpoint, run), images, CONFIG, search=SearchConfig(max_drop=0.1), run=run)
    assert asked == [(list(images[::2]), tmp_path / BUDGET)]


def test_a_budget_of_something_else_is_refused(planted, budget, images):
    state = state_digest(load_detector(planted).module)
    for change, message in (
        ({"state_hash": "0"}, "the noise budget has state_hash '0'; expected '"),
        ({"granularity": "block"}, "granularity 'block'; expected 'layer'"),
        ({"bits": 4}, "bits 4; expected None"),
        ({"d": None}, "d None and 22 layers"),
        ({"items": []}, "and 0 layers"),
    ):
        with pytest.raises(ConfigError, match=message):
            budget_figures({**budget, **change}, state)
    with pytest.raises(ConfigError, match="fidelity_images gives 1 images"):
        divided(images[:1])


@pytest.mark.parametrize(
    ("factor", "tried", "chosen"), [(0.5, [2, 1], 1), (1.0, [2], 2), (1.5, [2, 3], 3), (0.1, [2, 0], 0), (9.0, [2], 2)]
)
def test_what_was_measured_corrects_the_prediction_both_ways(factor, tried, chosen):
    sets = [
        FloatSet(frozenset(range(count)), tuple(map(str, range(count))), d, float(count))
        for count, d in enumerate((0.4, 0.2, 0.1, 0.05))
    ]
    measured: dict[int, float] = {}

    def one(own):
        measured[len(own.layers)] = factor * own.d
        return SimpleNamespace(d=factor * own.d)

    def solve(asked):
        return next((own for own in sets if own.d <= asked), None)

    search_module._approach(SimpleNamespace(one=one), solve, 0.12, lambda own: own.d, lambda candidate: candidate.d)
    assert list(measured) == tried
    fit = [count for count, d in measured.items() if d <= 0.12] or [2]
    assert min(fit) == chosen


def test_the_largest_noise_within_a_drop_is_that_of_the_rule():
    assert largest_noise(0.007148, None) == pytest.approx(0.1, abs=1e-3)
    assert largest_noise(0.003574, 0.5) == pytest.approx(0.1, abs=1e-3)
    assert largest_noise(0.0, None) == 0.0
    assert largest_noise(1.0, None) == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "no goal is named; expected one of"),
        ({"max_noise": 0.1, "max_drop": 0.1}, "max_drop and max_noise are named"),
        ({"max_drop": 2.0}, "max_drop is 2.0"),
        ({"max_noise": 0.0}, "max_noise is 0.0; expected a number above 0"),
        ({"max_latency": math.inf}, "max_latency is inf"),
        ({"max_latency": 5.0, "built": 1}, "built is 1"),
        ({"max_latency": 5.0, "rounds": 0}, "rounds is 0"),
    ],
)
def test_an_unfit_goal_is_told(values, message):
    with pytest.raises(ConfigError, match=message):
        SearchConfig(**values)
