"""A search takes a QDQ file of a float ONNX file as it takes a checkpoint: the same graph, the same borders, the same recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from graphs import Graph

import yoloqat as yq
from yoloqat.cli import main
from yoloqat.config import EvalConfig, QuantConfig, Recipe
from yoloqat.datasets import load_dataset
from yoloqat.errors import ConfigError
from yoloqat.onnx_quant.float_graph import float_graph
from yoloqat.onnx_quant.placement import place
from yoloqat.onnx_quant.sized import SizedGraph
from yoloqat.pipeline import search_engines
from yoloqat.pipeline.onnx_files import FLOAT, QDQ, QuantizedFile, read_quantized, save_files
from yoloqat.pipeline.recipe import check_onnx
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.search import SearchResult, open_searched, run_search
from yoloqat.pipeline.search_engines import Engines
from yoloqat.pipeline.search_onnx import SearchedFile, graph_steps
from yoloqat.pipeline.search_torch import SearchedCheckpoint
from yoloqat.quant.qparams import QParams, TensorQParams
from yoloqat.searching.settings import SearchConfig
from yoloqat.searching.tied import Flow, flows, tied_layers

CONFIG = EvalConfig(imgsz=64, batch=4)
PLANTED = ("model.3.conv", "model.2.cv2.conv")
TIED = {*PLANTED, "model.2.m.0.cv1.conv"}
"""What reads a tensor of one scale with a planted layer goes with it."""
LIMIT = 0.15
MakeRun = Callable[[], Run]


@pytest.fixture
def make_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    return lambda: Run(tmp_path_factory.mktemp("run"), torch.device("cpu"), 1)


@pytest.fixture(scope="module")
def planted(tiny_float: Path, tiny_data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny detector for ONNX Runtime, whose latencies are estimated; two ranges in the file are far too wide."""
    out = tmp_path_factory.mktemp("planted")
    line = ["--images", str(tiny_data.images), "--no-eval", "--threads", "1", "--target", "onnxruntime", "--quiet"]
    assert main(["calibrate", str(tiny_float), *line, "--out", str(out)]) == 0
    quantized = read_quantized(out / QDQ)
    activations, weights = dict(quantized.qparams.activations), dict(quantized.qparams.weights)
    activation, weight = activations[f"{PLANTED[0]}._input_quantizer"], weights[PLANTED[1]]
    activations[f"{PLANTED[0]}._input_quantizer"] = replace(activation, scale=np.float32(60) * activation.scale)
    weights[PLANTED[1]] = replace(
        weight, scale=np.float32(60) * weight.scale, integers=np.round(weight.integers / 60).astype(np.int64)
    )
    save_files(replace(quantized, qparams=QParams(activations, weights)), out)
    return out / QDQ


@pytest.fixture(scope="module")
def found(planted: Path, tiny_data, tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchResult, Run]:
    run = Run(tmp_path_factory.mktemp("search"), torch.device("cpu"), 1)
    return _searched(planted, tiny_data, run), run


def _searched(path: Path, tiny_data, run: Run) -> SearchResult:
    dataset = load_dataset(tiny_data.yaml)
    search = SearchConfig(max_noise=LIMIT, built=2, rounds=2)
    return run_search(open_searched(path, run), dataset.images, CONFIG, search=search, run=run, dataset=dataset)


def test_the_graph_is_that_of_the_torch_model(calibrated: Path, tiny_checkpoint: Path, make_run: MakeRun) -> None:
    own, other = SearchedFile(calibrated / QDQ, make_run()), SearchedCheckpoint(tiny_checkpoint, make_run())
    assert set(own.layers) == set(other.layers)
    tied = [set(map(frozenset, tied_layers(model.placement, model.layers))) for model in (own, other)]
    assert tied[0] == tied[1]
    ours, theirs = own.sized(64), other.sized(64)
    passing = [set(flows(sized.steps, own.layers)) for sized in (ours, theirs)]
    assert passing[0] == passing[1]
    macs = [{cost.name: (cost.macs, cost.parameters) for cost in sized.costs} for sized in (ours, theirs)]
    assert macs[0] == macs[1]
    assert own.nodes() == other.nodes()


def test_borders_run_through_matrix_products_and_not_through_sizes() -> None:
    g = Graph()
    weight = g.hold("m", np.ones((4, 6), dtype=np.float32))
    first = g.conv("a", "images", (3, 2))
    matrix = g.add("MatMul", "b", g.add("Reshape", "flat", first, g.hold("s", [1, -1, 4])), weight)
    twice = g.add("MatMul", "c", matrix, weight_of_six := g.hold("n", np.ones((6, 6), dtype=np.float32)))
    again = g.add("MatMul", "d", twice, weight_of_six)
    product = g.add("MatMul", "square", again, g.add("Transpose", "turned", again, perm=[0, 2, 1]))
    size = g.add("Shape", "size", first)
    g.conv("e", g.add("Reshape", "as", g.add("Identity", "same", product), size), (2, 2))
    model = float_graph(g.model({"e_out": (1, 2, 4, 4)}, fed=(1, 3, 4, 2)), "m.onnx")
    graph = SizedGraph.of(model, 3, (4, 2))
    passing = flows(graph_steps(graph), {"a", "b", "c", "e"})
    assert set(passing) == {
        Flow("", "a", 24),
        Flow("a", "b", 16),
        Flow("b", "c", 24),
        Flow("c", "c", 24),
        Flow("c", "e", 24),
    }
    costs = {cost.name: cost.macs for cost in graph.costs()}
    assert (costs["a"], costs["b"], costs["square"]) == (16 * 3, 24 * 4, 16 * 6)
    assert sum(cost.name == "c" for cost in graph.costs()) == 2, "one weight, two nodes"


def test_the_planted_layer_and_what_shares_its_scale_stay_float(found: tuple[SearchResult, Run]) -> None:
    result, _ = found
    results = result.results
    assert set(results["float_layers"]) == TIED
    assert results["d_choosing"] <= LIMIT < results["frontier"][0]["d_choosing"]
    assert result.met
    assert results["d"] < results["frontier"][0]["d"]
    assert results["frontier"][-1]["d"] < 1e-3, "everything that makes noise is float"
    assert results["drop"] == pytest.approx(results["map_float"] - results["map50_95"])
    assert (results["engine"], results["latency_source"]) == ("onnxruntime", "multiply-adds")
    json.dumps(results, allow_nan=False)


def test_the_recipe_makes_the_searched_file_again(
    calibrated: Path, tiny_float: Path, tiny_data, make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run()
    model = SearchedFile(calibrated / QDQ, run)
    layers = ("model.2.cv2.conv", "model.2.m.0.cv1.conv")  # one reads a Concat of what the skip holds: the range stays
    model.recipe(CONFIG, layers, measured={"d": 0.1}).save(tmp_path / "recipe.yaml")
    recipe = Recipe.load(tmp_path / "recipe.yaml")
    assert (recipe.float_layers, recipe.quantization.ignore) == (layers, ())
    data = ["--recipe", str(tmp_path / "recipe.yaml"), "--calib-images-dir", str(tiny_data.train), "--no-eval"]
    made = {}
    for name, path in (("first", tiny_float), ("second", calibrated / FLOAT)):
        out = tmp_path / name
        assert main(["calibrate", str(path), *data, "--threads", "1", "--quiet", "--out", str(out)]) == 0
        made[name] = onnx.load(out / QDQ).graph
    searched = onnx.load(model.file(layers).path).graph
    assert made["first"] == made["second"] == searched
    assert len(searched.node) < len(onnx.load(calibrated / QDQ).graph.node)
    again = SearchedFile(tmp_path / "first" / QDQ, run)
    assert again.recipe(CONFIG, ("model.0.conv",)).float_layers == (*layers, "model.0.conv")
    assert again.recipe(CONFIG, ()).quantization.ignore == ()


def test_a_recipe_of_another_file_is_refused(calibrated: Path, tiny_onnx: Path, make_run: MakeRun) -> None:
    recipe = SearchedFile(calibrated / QDQ, make_run()).recipe(CONFIG, ())
    with pytest.raises(ConfigError, match=f"'{tiny_onnx}' is another model than that of the recipe"):
        check_onnx(recipe, tiny_onnx)


def test_an_interrupted_search_goes_on(
    found: tuple[SearchResult, Run],
    planted: Path,
    tiny_data,
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, measure, seen = make_run(), Engines.fidelity, list[str]()

    def stopped(engines: Engines, layers: Any, reference: Any, label: str) -> Any:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(label)
        return measure(engines, layers, reference, label)

    monkeypatch.setattr(Engines, "fidelity", stopped)
    with pytest.raises(KeyboardInterrupt):
        _searched(planted, tiny_data, run)
    monkeypatch.setattr(Engines, "fidelity", measure)
    monkeypatch.setattr("yoloqat.onnx_quant.noise.fake_quantized", None)  # the budget is there
    written, write = list[int](), SearchedFile.export
    monkeypatch.setattr(
        SearchedFile,
        "export",
        lambda model, layers, *rest: (written.append(len(layers)), write(model, layers, *rest))[1],
    )
    again = _searched(planted, tiny_data, run)
    assert again.results["frontier"] == found[0].results["frontier"]
    assert 0 not in written, "the file with every layer in INT8 was measured before"


def test_engines_are_built_and_timed_once(
    calibrated: Path, tiny_data, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, images = make_run(), load_dataset(tiny_data.yaml).images[:4]
    search = SearchConfig(max_latency=1e-6, built=2, rounds=2)
    found = run_search(open_searched(calibrated / QDQ, run), images, CONFIG, search=search, run=run)
    assert not found.met
    assert (found.results["engine"], found.results["latency_source"]) == ("openvino", "openvino")
    timed = [row["latency_ms"] for row in found.results["frontier"]]
    assert found.results["latency_ms"] == min(timed) > 0.0
    assert (found.results["drop"], found.results["map50_95"]) == (None, None)
    table = found.engines.table()
    assert min(*table.int8_ms.values(), *table.float_ms.values()) > 0, "every layer is among the engine's nodes"
    monkeypatch.setattr(search_engines, "profile_models", None)
    monkeypatch.setattr(search_engines, "build_openvino", None)
    again = run_search(open_searched(calibrated / QDQ, run), images, CONFIG, search=search, run=run)
    assert again.results["frontier"] == found.results["frontier"]
    assert again.recipe == found.recipe


def test_engines_for_vnni_alone_have_no_guard_and_are_others(
    calibrated: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, told = make_run(), []

    def build(onnx: Path, path: Path, **options: object) -> None:
        told.append((options["tight"], options["split_above"] < 1.0))
        path.mkdir()

    monkeypatch.setattr(search_engines, "build_openvino", build)
    model = open_searched(calibrated / QDQ, run)
    paths = {search_engines.Engines(model, CONFIG, run=run, rounds=1, vnni=vnni).build(()) for vnni in (False, True)}
    assert (len(paths), told) == (2, [(True, True), (False, False)])
    model.target = "tensorrt"
    with pytest.raises(ConfigError, match="vnni is True and the engine is 'tensorrt'"):
        search_engines.Engines(model, CONFIG, run=run, rounds=1, vnni=True)


def test_the_command_names_the_next_line(
    planted: Path, tiny_float: Path, tiny_data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = ["search", str(planted), "--data", str(tiny_data.yaml), "--threads", "1"]
    found = main([*line, "--max-noise", str(LIMIT), "--built", "2", "--out", str(out)])
    said = capsys.readouterr()
    assert found == 0, said.err
    result = json.loads((out / "result.json").read_text())
    assert set(result["results"]["float_layers"]) == TIED
    assert result["provenance"]["inputs"]["model"]["family"] == "onnx"
    assert {"recipe.yaml", "frontier.png", "latency.json"} <= {path.name for path in out.iterdir()}
    assert f"next: yoloqat calibrate {tiny_float} --recipe" in said.out.replace("\n", " ")


def test_python_takes_the_path_of_the_file(planted: Path, tiny_data) -> None:
    data = yq.Dataset.from_images(tiny_data.images)
    with pytest.raises(ConfigError, match="vnni of search is 1"):
        yq.search(planted, data, max_noise=10.0, vnni=1)
    found = yq.search(planted, data, max_noise=10.0, fidelity_images=2, device="cpu")
    assert (found.met, found.detector, found.recipe.float_layers) == (True, None, ())


def test_a_float_file_is_told_to_calibrate_first(
    tiny_float: Path, tiny_data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["search", str(tiny_float), "--images", str(tiny_data.images), "--max-noise", "1", "--quiet"]
    assert main([*line, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"'{tiny_float}' is a float model" in error
    assert f"run `yoloqat calibrate {tiny_float}` first" in error
    assert error.count("\n") == 1


def test_a_name_with_signs_of_patterns_is_left_float_alone() -> None:
    g = Graph()
    x = g.conv("x0", g.conv("x[0]", "images", (3, 2)), (2, 2))
    g.conv("last", x, (2, 2))
    model = float_graph(g.model({"last_out": (1, 2, 32, 32)}), "m.onnx")
    placement, scheme = place(model, QuantConfig()), QuantConfig().activations
    any_values = TensorQParams(scheme, np.float32(1), np.int64(0))
    qparams = QParams(dict.fromkeys(placement.plan.locations, any_values), dict.fromkeys(placement.layers, any_values))
    floating: Any = SimpleNamespace(model=model)
    whole = QuantizedFile(floating, placement, qparams, QuantConfig(ignore=("last",)), {}, (), {})
    mixed = whole.leave_float(["x[0]"])
    assert mixed.placement.layers == ("x0",)
    assert mixed.calibrated == whole.quant
    with pytest.raises(ConfigError, match="of 3 layers none is left to quantize"):
        mixed.leave_float(["x0"])
