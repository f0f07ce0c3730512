from __future__ import annotations

import ast

import pytest
from text_format import parse

from yoloqat.deploy import describe, triton_config, write_triton
from yoloqat.errors import ConfigError, OutputError

NAMES = {0: "cat", 1: 'a "dog"; big', 2: "bird"}


def test_a_fixed_batch_is_served_as_it_is(make_onnx):
    source = make_onnx(batch=2)
    config = parse(triton_config(describe(source, source), name="yolo"))
    assert (config["name"], config["backend"], config["max_batch_size"]) == ("yolo", "onnxruntime", 0)
    assert config["input"] == [{"name": "images", "data_type": "TYPE_FP32", "dims": [2, 3, 32, 32]}]
    assert config["output"] == [
        {"name": "output0", "data_type": "TYPE_FP32", "dims": [2, 7, 21]},
        {"name": "output1", "data_type": "TYPE_FP32", "dims": [2, 4, 8, 8]},
    ]
    assert config["instance_group"] == [{"count": 1, "kind": "KIND_CPU"}]
    assert "dynamic_batching" not in config


def test_an_open_batch_is_formed_by_the_server(make_onnx, engine):
    config = parse(triton_config(describe(engine, make_onnx(batch="n", side="s")), name="yolo", max_batch=16))
    assert (config["backend"], config["max_batch_size"]) == ("tensorrt", 16)
    assert config["input"][0]["dims"] == [3, -1, -1]
    assert config["dynamic_batching"] == {"max_queue_delay_microseconds": 1000}
    assert config["instance_group"] == [{"count": 1, "kind": "KIND_GPU"}]


@pytest.mark.parametrize(("gpu", "kind"), [(True, "KIND_GPU"), (False, "KIND_CPU")])
def test_the_place_can_be_named(make_onnx, engine, gpu, kind):
    source = make_onnx()
    for path in (source, engine):
        config = parse(triton_config(describe(path, source), name="yolo", gpu=gpu))
        assert config["instance_group"][0]["kind"] == kind


def test_ultralytics_finds_its_metadata(make_onnx):
    source = make_onnx()
    parameters = parse(triton_config(describe(source, source), name="yolo"))["parameters"]
    assert parameters["key"] == "metadata"
    metadata = ast.literal_eval(parameters["value"]["string_value"])
    assert metadata == {
        "names": NAMES,
        "stride": 16,
        "task": "detect",
        "imgsz": [32, 32],
        "batch": 1,
        "channels": 3,
        "end2end": False,
    }


def test_repository(make_onnx, engine, tmp_path):
    repository = tmp_path / "models"
    (repository / "other").mkdir(parents=True)
    directory = write_triton(describe(engine, make_onnx()), repository, name="yolo")
    files = sorted(str(path.relative_to(repository)) for path in repository.rglob("*"))
    assert files == ["other", "yolo", "yolo/1", "yolo/1/model.plan", "yolo/config.pbtxt", "yolo/labels.txt"]
    assert (directory / "1" / "model.plan").read_bytes() == b"the plan"
    assert (directory / "labels.txt").read_text().splitlines() == list(NAMES.values())


@pytest.mark.parametrize("name", ["", "a b", "../up", "a/b"])
def test_names_that_no_directory_or_url_has(make_onnx, tmp_path, name):
    source = make_onnx()
    with pytest.raises(ConfigError, match=f"the model's name is '{name}'"):
        write_triton(describe(source, source), tmp_path / "models", name=name)
    assert not (tmp_path / "models").exists()


def test_settings_out_of_range(make_onnx):
    source = make_onnx()
    with pytest.raises(ConfigError, match="max_batch is 0"):
        triton_config(describe(source, source), name="yolo", max_batch=0)


def test_place_that_cannot_be_written(make_onnx, tmp_path):
    source = make_onnx()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write '.*file/yolo'"):
        write_triton(describe(source, source), tmp_path / "file", name="yolo")


@pytest.mark.parametrize("text", ["name yolo", "a: [1 2]", "a: [1,]", "a: }", "Name: 1", "a: 1 }", "?"])
def test_the_reader_of_these_tests_refuses_nonsense(text):
    with pytest.raises((ValueError, IndexError)):
        parse(text)
