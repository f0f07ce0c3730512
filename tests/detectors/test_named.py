"""Weights by their bare name: fetched only where the user names them so."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from yoloqat.detectors import load_detector, named
from yoloqat.errors import ModelError
from yoloqat.pipeline.models import open_model, path_key
from yoloqat.pipeline.run import Run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current directory."""
    there = tmp_path / "here"
    there.mkdir()
    monkeypatch.chdir(there)
    return there


@pytest.fixture
def asked(monkeypatch):
    """No network is reached; what would be fetched is noted."""
    names = []

    def download(name, directory):
        names.append(name)
        raise ConnectionError("no network in this test")

    monkeypatch.setattr(named, "download", download)
    return names


def test_what_is_fetched_appears_in_the_current_directory(folder, monkeypatch, tiny_model):
    def download(name, directory):
        assert directory.is_dir()
        return Path(shutil.copy(tiny_model, directory / name))

    monkeypatch.setattr(named, "download", download)
    detector = load_detector(Path("yolov8n.pt"))
    assert (detector.source.path, len(detector.info.names)) == ("yolov8n.pt", 3)
    assert [path.name for path in folder.iterdir()] == ["yolov8n.pt"]


def test_it_is_opened_like_any_other_model(folder, monkeypatch, tiny_model):
    monkeypatch.setattr(named, "download", lambda name, directory: Path(shutil.copy(tiny_model, directory / name)))
    opened = open_model(Path("yolov8n.pt"), Run(folder, torch.device("cpu"), 1))
    assert opened.key == path_key(folder / "yolov8n.pt") | {"path": "yolov8n.pt"}


def test_a_file_that_is_there_is_taken(folder, asked, tiny_model):
    shutil.copy(tiny_model, "yolov8n.pt")
    assert load_detector(Path("yolov8n.pt")).source.path == "yolov8n.pt"
    assert asked == []


def test_weights_that_ultralytics_keeps_elsewhere_stay_there(folder, monkeypatch, tiny_model):
    monkeypatch.setattr(named, "download", lambda name, directory: tiny_model)
    assert named.fetch_named("yolov8n.pt") == tiny_model
    assert tiny_model.is_file()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("path", ["models/yolov8n.pt", "/models/yolov8n.pt", "mine.pt", "yolov8n.onnx", "yolov8n"])
def test_any_other_missing_path_is_told_and_not_fetched(folder, asked, path):
    with pytest.raises(ModelError, match=f"model '{path}' does not exist"):
        load_detector(Path(path))
    assert (asked, list(folder.iterdir())) == ([], [])


def test_a_directory_of_that_name_is_not_fetched(folder, asked):
    Path("yolov8n.pt").mkdir()
    with pytest.raises(ModelError, match=r"model 'yolov8n.pt' is a directory"):
        load_detector(Path("yolov8n.pt"))
    assert asked == []


def test_a_failure_is_told_with_its_innermost_reason_and_leaves_nothing(folder, monkeypatch):
    def download(name, directory):
        (directory / "half").write_text("x")
        try:
            raise OSError(28, "No space left on device")
        except OSError as inner:
            raise ConnectionError("a long story") from inner

    monkeypatch.setattr(named, "download", download)
    message = f"model 'yolov8n.pt' is not in '{folder}', and Ultralytics could not fetch it (No space left on device)"
    with pytest.raises(ModelError, match=re.escape(message)):
        load_detector(Path("yolov8n.pt"))
    assert list(folder.iterdir()) == []


class Downloads:
    """Stands for the module of Ultralytics."""

    def __init__(self, directory=None):
        self.directory = directory

    def attempt_download_asset(self, name, **settings):
        assert settings["retry"] <= 1
        if settings["dir"] == self.directory:
            (self.directory / name).write_text("weights")
        return name


def test_the_file_is_found_where_ultralytics_put_it(folder, monkeypatch):
    monkeypatch.setattr(named, "ultralytics_module", lambda name: Downloads(folder))
    assert named.download("yolov8n.pt", folder) == folder / "yolov8n.pt"


def test_nothing_that_arrived_is_told(folder, monkeypatch):
    monkeypatch.setattr(named, "ultralytics_module", lambda name: Downloads())
    with pytest.raises(FileNotFoundError, match=r"nothing arrived for yolov8n\.pt"):
        named.download("yolov8n.pt", folder)


def test_ultralytics_own_downloader_gives_up_at_the_first_failure(folder, monkeypatch):
    requests = pytest.importorskip("requests")
    asked = []

    def refuse(url, **settings):
        asked.append(url)
        raise requests.exceptions.ConnectionError("no network in this test")

    monkeypatch.setattr(requests, "get", refuse)
    with pytest.raises(ModelError, match=r"model 'yolov8n.pt' is not in .* \(no network in this test\)"):
        load_detector(Path("yolov8n.pt"))
    assert len(asked) == 1
    assert asked[0].endswith("/yolov8n.pt")
    assert list(folder.iterdir()) == []
