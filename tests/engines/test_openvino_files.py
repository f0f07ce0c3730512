from __future__ import annotations

import json
import random
import re
import shutil

import pytest
import yaml
from odd_values import damaged, made

from yoloqat.engines import OpenVINOPredictor, build_openvino, open_engine, openvino_files, openvino_import
from yoloqat.engines.openvino_files import is_directory, read_file
from yoloqat.errors import ModelError


@pytest.fixture(scope="module")
def built(qdq_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("files") / "model_openvino"
    build_openvino(qdq_path, out)
    return out


@pytest.fixture
def exported(built, tmp_path):
    """A directory as Ultralytics exports it: another name, and no metadata but the YAML."""
    out = tmp_path / "tiny_openvino_model"
    out.mkdir()
    for suffix in ("xml", "bin"):
        shutil.copy(built / f"model.{suffix}", out / f"tiny.{suffix}")
    shutil.copy(built / "metadata.yaml", out)
    return out


def test_metadata_are_those_of_ultralytics(built):
    values = yaml.safe_load((built / "metadata.yaml").read_text())
    assert values["names"] == {0: "cat", 1: "dog"}
    assert (values["stride"], values["task"], values["imgsz"], values["batch"]) == (8, "detect", [16, 16], 1)
    assert not [key for key in values if key.startswith("yoloqat")]


def test_an_export_of_ultralytics_is_read_and_runs(built, exported, images):
    assert is_directory(exported)
    file = read_file(exported)
    assert file.info == read_file(built).info
    assert file.quantized == ()
    predictor = open_engine(exported)
    assert isinstance(predictor, OpenVINOPredictor)
    assert (predictor(images)[0] == OpenVINOPredictor(built)(images)[0]).all()
    assert len(predictor.precision.int8_convolutions) == 2


def test_metadata_that_cannot_be_read(exported):
    (exported / "metadata.yaml").write_text("- a list")
    with pytest.raises(ModelError, match=r"cannot read '.*metadata\.yaml' \(ValueError: not a mapping"):
        read_file(exported)
    (exported / "metadata.yaml").unlink()
    assert not is_directory(exported)
    with pytest.raises(ModelError, match=r"cannot read '.*metadata\.yaml' \(FileNotFoundError"):
        read_file(exported)


def test_one_model_alone(exported):
    shutil.copy(exported / "tiny.xml", exported / "other.xml")
    with pytest.raises(ModelError, match=r"tiny_openvino_model' holds 2 \.xml files"):
        read_file(exported)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("import os; os.kill(os.getpid(), 11)", "OpenVINO's reader crashes by signal 11 on "),
        ("import time; time.sleep(60)", r"OpenVINO's reader does not end within 0\.5 s on "),
    ],
)
def test_reader_that_crashes_or_hangs(built, tmp_path, monkeypatch, script, told):
    (tmp_path / "trial.py").write_text(script)
    monkeypatch.setattr(openvino_import, "__file__", str(tmp_path / "trial.py"))
    monkeypatch.setattr(openvino_files, "READ_SECONDS", 0.5)
    with pytest.raises(ModelError, match=f"{told}'{built}'"):
        read_file(built)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"imgsz": []}, "metadata 'imgsz' of '{}' is []; expected one side, or height and width"),
        ({"imgsz": "abc"}, "metadata 'imgsz' of '{}' is 'abc'; expected a whole number from 1 to 8192"),
        ({"imgsz": [-1, 16]}, "metadata 'imgsz' of '{}' is -1; expected a whole number from 1 to 8192"),
        ({"imgsz": [16.0, 16]}, "metadata 'imgsz' of '{}' is 16.0; expected a whole number from 1 to 8192"),
        ({"imgsz": 10**9}, "metadata 'imgsz' of '{}' is 1000000000; expected a whole number from 1 to 8192"),
        ({"names": None}, "'{}' has the metadata ["),
        ({"names": []}, "metadata 'names' of '{}' is []; expected class names numbered from 0"),
        ({"names": {}}, "metadata 'names' of '{}' is {{}}; expected class names numbered from 0"),
        ({"names": {1: "a", 2: "b"}}, "metadata 'names' of '{}' is {{1: 'a', 2: 'b'}}; expected class names"),
        ({"stride": 0}, "metadata 'stride' of '{}' is 0; expected a whole number from 1 to 8192"),
        ({"task": "classify"}, "metadata 'task' of '{}' is 'classify'; expected one of detect, segment, pose, obb"),
    ],
)
def test_entries_that_do_not_do_are_named(exported, changes, told):
    sidecar = exported / "metadata.yaml"
    sidecar.write_text(yaml.safe_dump(yaml.safe_load(sidecar.read_text()) | changes))
    with pytest.raises(ModelError, match=re.escape(told.format(sidecar))):
        read_file(exported)


def test_a_task_that_is_absent_is_detection(exported):
    sidecar = exported / "metadata.yaml"
    values = yaml.safe_load(sidecar.read_text())
    del values["task"]
    sidecar.write_text(yaml.safe_dump(values))
    assert read_file(exported).info.task == "detect"


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {k: v}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join(['*' + before] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "more than 16777216 characters once its aliases"),
        ("a: &a [*a]", "it holds itself"),
        (MERGES, "more than 16777216 characters once its aliases"),
        ("[" * 3000, "nested too deeply"),
        ("a: !!int ''", "a value is unfit"),
        ("a: !!bool perhaps", "a value is unfit"),
        ("a: !!timestamp never", "a value is unfit"),
        ("a: 2020-13-45", "a value is unfit: month must be"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: could not determine a constructor for the tag"),
        ("a: \0", "special characters are not allowed"),
        ("a: [", "line 1: expected the node content"),
        ("", "not a mapping"),
    ],
)
def test_a_yaml_that_is_no_description(exported, text, reason):
    (exported / "metadata.yaml").write_text(text)
    with pytest.raises(ModelError, match=f"cannot read '{exported / 'metadata.yaml'}' .*{reason}") as caught:
        read_file(exported)
    assert "\n" not in str(caught.value)


def test_whatever_the_yaml_says_ends_in_a_model_or_in_one_line(exported, monkeypatch):
    monkeypatch.setattr(openvino_files, "read_model", read_once(openvino_files.read_model))
    good, rng = yaml.safe_load((exported / "metadata.yaml").read_text()), random.Random(0)
    for _ in range(150):
        (exported / "metadata.yaml").write_text(yaml.dump(damaged(good, rng), allow_unicode=False), encoding="utf-8")
        assert_model_or_line(exported)


def test_whatever_our_own_json_says_ends_in_a_model_or_in_one_line(built, tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_files, "read_model", read_once(openvino_files.read_model))
    own = tmp_path / "own"
    shutil.copytree(built, own)
    good, rng = json.loads((own / "metadata.json").read_text()), random.Random(0)
    for _ in range(300):
        (own / "metadata.json").write_text(json.dumps(damaged(good, rng)))
        assert_model_or_line(own)
    for text in ("[" * 100_000, "1" * 5000, '{"info": null}', '{"info": [["a"]]}', "\0"):
        (own / "metadata.json").write_text(text)
        with pytest.raises(ModelError, match=re.escape(f"cannot read '{own / 'metadata.json'}'")):
            read_file(own)


def read_once(read):
    known = []

    def reader(source, data):
        known[:] = known or [read(source, data)]
        return known[0]

    return reader


def assert_model_or_line(path):
    file = made(lambda: read_file(path))
    assert file is None or file.info.stride > 0
