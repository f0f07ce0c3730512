from __future__ import annotations

import shutil

import pytest
import yaml

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
    with pytest.raises(ModelError, match=r"cannot read '.*metadata\.yaml' \(AttributeError"):
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


def test_alias_bomb_is_not_unfolded(exported):
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 9))
    (exported / "metadata.yaml").write_text(f"l0: &l0 [x]\n{levels}\nnames: *l8\n")
    with pytest.raises(ModelError, match=r"cannot read '.*metadata\.yaml' \(YAMLError: more than 10 aliases\)"):
        read_file(exported)
