"""Zip archives, kind and unkind."""

from __future__ import annotations

import re

import pytest
from tiny_coco import zipped

from yoloqat.datasets.download_unpack import unpack
from yoloqat.errors import DataError, OutputError


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"d/": b"", "d/x.jpg": b"x", "d/e/y.jpg": b"y", "other/z.json": b"z"}))
    return path


def test_a_directory_is_taken_without_its_name(archive, tmp_path):
    steps = []
    target = tmp_path / "out" / "images"
    unpack(archive, "d/", target, files=2, progress=lambda *state: steps.append(state))
    found = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*.jpg")}
    assert found == {"x.jpg": b"x", "e/y.jpg": b"y"}
    assert steps == [("unpack images", 1, 2), ("unpack images", 2, 2)]


def test_one_file_is_taken(archive, tmp_path):
    unpack(archive, "other/z.json", tmp_path / "out" / "z.json", files=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["z.json"]


@pytest.mark.parametrize("name", ["../evil.jpg", "d/../../evil.jpg", "/evil.jpg", "..\\evil.jpg", "C:/evil.jpg"])
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_written(tmp_path, name):
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"d/x.jpg": b"x", name: b"evil"}))
    with pytest.raises(DataError, match=re.escape(f"'{path}' holds the name '{name}'")):
        unpack(path, "d/", tmp_path / "in" / "out", files=1)
    assert list(tmp_path.rglob("*")) == [path]


@pytest.mark.parametrize(("inside", "count"), [("d/", 2), ("d", 0), ("other/y.json", 0)])
def test_another_number_of_files_is_told(archive, tmp_path, inside, count):
    with pytest.raises(DataError, match=re.escape(f"'{archive}' holds {count} files '{inside}'; expected 3")):
        unpack(archive, inside, tmp_path / "out", files=3)
    assert not (tmp_path / "out").exists()


def test_what_is_no_zip_file_or_a_damaged_one_leaves_nothing(archive, tmp_path):
    content = archive.read_bytes()
    broken = tmp_path / "broken.zip"
    for damaged in (b"no zip", content[:-30], content.replace(b"y.jpgy", b"y.jpg?")):
        broken.write_bytes(damaged)
        with pytest.raises(DataError, match=re.escape(f"'{broken}' is no whole zip file (")):
            unpack(broken, "d/", tmp_path / "out", files=2)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "broken.zip"]


def test_an_interruption_leaves_nothing(archive, tmp_path):
    def interrupt(step, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(archive, "d/", tmp_path / "out", files=2, progress=interrupt)
    assert list(tmp_path.iterdir()) == [archive]


def test_a_full_disk_is_told_and_leaves_nothing(archive, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("yoloqat.datasets.download_unpack.shutil.copyfileobj", full)
    with pytest.raises(OutputError, match=re.escape(f"cannot write '{tmp_path / 'out'}' (No space left on device)")):
        unpack(archive, "d/", tmp_path / "out", files=2)
    assert list(tmp_path.iterdir()) == [archive]
