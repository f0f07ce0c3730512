"""Images that are no squares, through every command that takes ``--imgsz``."""

from __future__ import annotations

import ast
import shutil

import onnx
import pytest
from tiny_detector import IMGSZ, make_data

from yoloqat.cli import main
from yoloqat.cli.main import joined_sizes

HEIGHT, WIDTH = 48, 80
SIZE = ("--imgsz", str(HEIGHT), str(WIDTH))


@pytest.fixture(scope="module")
def wide_data(tmp_path_factory, tiny_model):
    """A data set whose labels are what the tiny detector finds at 48 x 80, so that its mAP is not 0 there."""
    return make_data(tmp_path_factory.mktemp("wide-data") / "set", tiny_model, size=(HEIGHT, WIDTH))


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory, tiny_model, wide_data):
    """The tiny detector calibrated at 48 x 80, and what the command left."""
    out = tmp_path_factory.mktemp("wide")
    data = ["--images", str(wide_data.images), "--annotations", str(wide_data.annotations)]
    calibration = ["--calib-images-dir", str(wide_data.train), "--calib-images", "4", "--threads", "1"]
    assert main(["calibrate", str(tiny_model), *data, *SIZE, *calibration, "--out", str(out)]) == 0
    return out / "model.safetensors"


@pytest.fixture(scope="module")
def exported(tmp_path_factory, calibrated):
    out = tmp_path_factory.mktemp("wide-onnx")
    assert main(["export", str(calibrated), *SIZE, "--threads", "1", "--out", str(out)]) == 0
    return out / "model.onnx"


def pair(wide_data):
    return ["--images", wide_data.images, "--annotations", wide_data.annotations]


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        (["--imgsz", "384", "640"], ["--imgsz", "384,640"]),
        (["--imgsz=384", "640", "m.pt"], ["--imgsz=384,640", "m.pt"]),
        (["--imgsz", "640", "m.pt", "--batch", "2"], ["--imgsz", "640", "m.pt", "--batch", "2"]),
        (["--imgsz", "1", "2", "3"], ["--imgsz", "1,2", "3"]),
        (["m.pt", "--batch", "8", "--imgsz"], ["m.pt", "--batch", "8", "--imgsz"]),
        (["--batch", "8", "640"], ["--batch", "8", "640"]),
        ([], []),
    ],
)
def test_two_sides_become_one_value(given, joined):
    assert joined_sizes(given) == joined


def test_a_file_is_exported_checked_built_and_scored_at_its_own_size(cli, exported, calibrated, wide_data, tmp_path):
    checked = cli("export", calibrated, *SIZE, *pair(wide_data), out=tmp_path / "checked")
    assert checked.code == 0, checked.err
    assert checked.result["config"]["export"]["imgsz"] == [48, 80]
    assert checked.result["results"]["node_max_steps"] <= 1
    model = onnx.load(exported)
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 48, 80]
    assert ast.literal_eval({entry.key: entry.value for entry in model.metadata_props}["imgsz"]) == [48, 80]
    built = cli("build", exported, *pair(wide_data), out=tmp_path / "built")
    assert built.code == 0, built.err
    engine = cli("eval", tmp_path / "built" / "model_openvino", *pair(wide_data), out=tmp_path / "engine")
    floating = cli("eval", exported, *pair(wide_data), out=tmp_path / "onnx")
    for found in (engine, floating):
        assert found.result["config"]["evaluation"]["imgsz"] == [48, 80]
    assert engine.result["results"]["map50_95"] == built.result["results"]["map_engine"] > 0.1
    assert floating.result["results"]["map50_95"] == checked.result["results"]["map_onnx"] > 0.1


def test_the_line_for_the_next_command_names_both_sides(cli, tiny_model, wide_data, tmp_path):
    arguments = ("--calib-images-dir", wide_data.train, "--calib-images", "4", "--no-eval")
    assert f"--imgsz {' '.join(SIZE[1:])}" in cli("calibrate", tiny_model, *SIZE, *arguments, out=tmp_path / "a").out
    square = cli("calibrate", tiny_model, "--imgsz", 64, 64, *arguments, out=tmp_path / "b")
    assert "--imgsz 64 " in square.out
    assert square.result["config"]["evaluation"]["imgsz"] == 64


def test_a_file_of_a_fixed_size_refuses_another(cli, exported, wide_data):
    found = cli("eval", exported, *pair(wide_data), "--imgsz", 80, 48)
    assert found.code == 2
    assert found.err.count("\n") == 1
    assert "imgsz is 80 x 48 and the model is fixed to 48 x 80" in found.err


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (("50", "80"), "imgsz is 50 x 80; expected a multiple of the model's stride 16; set --imgsz to 48 80 or 64 80"),
        (("48", "90"), "imgsz is 48 x 90; expected a multiple of the model's stride 16; set --imgsz to 48 80 or 48 96"),
        (("70",), "imgsz is 70; expected a multiple of the model's stride 16; set --imgsz to 64 or 80"),
    ],
)
@pytest.mark.parametrize(
    "command", ["eval", "calibrate", "compare", "sensitivity", "export", "inspect", "bench", "finetune"]
)
def test_sides_that_are_no_multiple_of_the_stride(
    cli, tiny_model, calibrated, wide_data, labelled, command, size, message
):
    model = calibrated if command in ("sensitivity", "finetune") else tiny_model
    data = {
        "eval": pair(wide_data),
        "calibrate": ["--calib-images-dir", wide_data.train, "--calib-images", "4"],
        "compare": [*pair(wide_data), "--calib-images-dir", wide_data.train, "--calib-images", "4"],
        "sensitivity": pair(wide_data),
        "finetune": ["--data", labelled, "--supervise", "1"],
    }
    found = cli(command, model, *data.get(command, []), "--imgsz", *size)
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert message in found.err
    shutil.rmtree(found.directory, ignore_errors=True)


def test_methods_are_compared_and_blocks_ranked(cli, tiny_model, calibrated, wide_data, tmp_path):
    calibration = ("--calib-images-dir", wide_data.train, "--calib-images", "4")
    compared = cli("compare", tiny_model, *pair(wide_data), *SIZE, *calibration, "--methods", "max", out=tmp_path / "a")
    assert compared.code == 0, compared.err
    assert compared.result["config"]["evaluation"]["imgsz"] == [48, 80]
    scan = ("--granularity", "block", *pair(wide_data), *SIZE)
    ranked = cli("sensitivity", calibrated, *scan, out=tmp_path / "b")
    assert ranked.code == 0, ranked.err
    scored = cli("eval", calibrated, *pair(wide_data), *SIZE, out=tmp_path / "c")
    assert ranked.result["results"]["quantized"]["map50_95"] == scored.result["results"]["map50_95"] > 0.1


def test_shapes_are_told_and_models_timed(cli, tiny_model, exported, tmp_path):
    told = cli("inspect", tiny_model, *SIZE, out=tmp_path / "a")
    assert told.result["results"]["layers"][0]["input"] == [3, 48, 80]
    assert "48 x 80 px" in told.out
    timed = cli("bench", tiny_model, exported, *SIZE, "--rounds", 2, "--warmup", 0, out=tmp_path / "b")
    assert (timed.code, timed.result["config"]["imgsz"]) == (0, [48, 80])
    own = cli("bench", exported, "--rounds", 2, "--warmup", 0, out=tmp_path / "c")
    assert (own.code, own.result["config"]["imgsz"]) == (0, [48, 80])


def test_fine_tuning_is_possible_by_distillation_alone(cli, calibrated, labelled, tmp_path):
    refused = cli("finetune", calibrated, "--data", labelled, *SIZE, "--epochs", 1, out=tmp_path / "a")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "imgsz is 48 x 80 for Ultralytics' trainer; expected one side of a square" in refused.err
    assert "--supervise 1" in refused.err
    trained = cli(
        "finetune", calibrated, "--data", labelled, *SIZE, "--epochs", 1, "--supervise", 4, out=tmp_path / "b"
    )
    assert trained.code == 0, trained.err
    assert trained.result["config"]["training"]["imgsz"] == [48, 80]


@pytest.mark.parametrize("value", ["big", "48x80", "48,80,96", "4.5", ""])
def test_what_is_no_size_is_one_line(cli, tiny_model, value):
    found = cli("inspect", tiny_model, f"--imgsz={value}")
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert f"argument --imgsz: {value!r} is no size; expected one side, or height and width" in found.err


def test_rectangular_batches_go_with_one_side(cli, tiny_model, wide_data):
    found = cli("eval", tiny_model, *pair(wide_data), *SIZE, "--rect")
    assert found.code == 2
    assert "imgsz is 48 x 80 for rectangular batches; expected one side of a square; leave out --rect" in found.err
    assert cli("eval", tiny_model, *pair(wide_data), "--imgsz", IMGSZ, IMGSZ, "--rect").code == 0


def test_statistics_are_found_again_or_named(cli, tiny_model, wide_data, tmp_path):
    arguments = ("--calib-images-dir", wide_data.train, "--calib-images", 4, "--no-eval", *SIZE)
    first = cli("calibrate", tiny_model, *arguments, out=tmp_path / "a")
    assert "collect statistics" in first.err
    kept = next((tmp_path / "a").glob("histograms-*.npz"))
    again = cli("calibrate", tiny_model, *arguments, "--method", "max", out=tmp_path / "b")
    named = cli("calibrate", tiny_model, *arguments, "--histograms", kept, out=tmp_path / "c" / "d")
    for found in (again, named):
        assert found.code == 0, found.err
        assert "collect statistics" not in found.err
        assert found.result["results"]["histograms"] == str(kept)
    other = cli("calibrate", tiny_model, *arguments[:-2], 80, 48, "--histograms", kept, out=tmp_path / "e")
    assert "were collected with imgsz [48, 80] instead of [80, 48]" in other.err


def test_a_scan_goes_on_with_its_own_study(cli, calibrated, wide_data, tmp_path):
    scan = ("sensitivity", calibrated, "--granularity", "block", *pair(wide_data), *SIZE)
    first = cli(*scan, out=tmp_path / "a")
    again = cli(*scan, out=tmp_path / "a")
    assert (again.code, again.result["results"]["items"]) == (0, first.result["results"]["items"])
