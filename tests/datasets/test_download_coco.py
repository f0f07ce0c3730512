"""A small COCO from a local server to a data set that loads."""

from __future__ import annotations

import re
import shutil
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from file_server import FileServer, serving
from tiny_coco import ANNOTATIONS, TRAIN, VAL, tiny_archives, tiny_source, zipped

from yoloqat.datasets import calibration_images, load_dataset
from yoloqat.datasets.download_coco import obtain, space_needed
from yoloqat.errors import DataError, OutputError

CONTENTS = tiny_archives()
SIZES = {address: len(content) for address, content in CONTENTS.items()}


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving({f"/{address}": content for address, content in CONTENTS.items()}) as state:
        yield state


@pytest.fixture
def source(server):
    return tiny_source(server.base, CONTENTS)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


VAL_FILES = ["annotations/instances_val2017.json", "coco.yaml", *(f"images/val2017/{n:012}.jpg" for n in (1, 2, 3))]


def test_the_validation_split_loads_and_is_scored_against_its_json(source, tmp_path):
    root = tmp_path / "coco"
    found = obtain(source, root)
    assert [(item.archive.address, item.origin, item.received) for item in found] == [
        (ANNOTATIONS, "fetched", SIZES[ANNOTATIONS]),
        (VAL, "fetched", SIZES[VAL]),
    ]
    assert files(root) == VAL_FILES, "no archive and no unfinished file stays"
    dataset = load_dataset(root / "coco.yaml")
    assert dataset.labels_source == str(root / "annotations" / "instances_val2017.json")
    assert (len(dataset.images), dataset.names) == (3, {0: "person", 1: "traffic light"})
    assert yaml.safe_load((root / "coco.yaml").read_text()) == {"val": "images/val2017", "names": dataset.names}
    with pytest.raises(DataError, match="has no train split"):
        calibration_images(root / "coco.yaml", 1)


def test_the_training_split_comes_on_top(source, server, tmp_path):
    obtain(source, tmp_path)
    server.requests.clear()
    found = obtain(source, tmp_path, train=True)
    assert [item.origin for item in found] == ["fetched", "present", "fetched"]
    assert [path for path, _ in server.requests] == [f"/{ANNOTATIONS}", f"/{TRAIN}"]
    assert len(calibration_images(tmp_path / "coco.yaml", 2)) == 2
    obtain(source, tmp_path)
    assert "train: images/train2017" in (tmp_path / "coco.yaml").read_text(), "what is there stays in the YAML"


def test_what_is_finished_is_not_fetched_again(source, server, tmp_path):
    obtain(source, tmp_path, train=True)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    server.requests.clear()
    found = obtain(source, tmp_path, train=True)
    assert server.requests == []
    assert {item.origin for item in found} == {"present"}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")} == stamps


def test_an_interrupted_fetch_goes_on(source, server, tmp_path):
    server.cuts = [SIZES[ANNOTATIONS], 700, *([0] * 9)]
    with pytest.raises(DataError, match=rf"cannot get '{server.base}/{VAL}'.*; 700 of {SIZES[VAL]} bytes"):
        obtain(source, tmp_path)
    assert files(tmp_path) == ["annotations/instances_val2017.json", "val2017.zip.part"]
    server.cuts, server.requests[:] = [], []
    found = obtain(source, tmp_path)
    assert [(item.origin, item.received) for item in found] == [("present", 0), ("fetched", SIZES[VAL] - 700)]
    assert server.requests == [(f"/{VAL}", 700)]
    assert server.served == SIZES[ANNOTATIONS] + SIZES[VAL], "no byte came twice"
    assert files(tmp_path) == VAL_FILES


def test_a_keyboard_interrupt_keeps_what_arrived(source, server, tmp_path):
    def interrupt(step, done, total):
        if step == "unpack val2017":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain(source, tmp_path, progress=interrupt)
    assert files(tmp_path) == ["annotations/instances_val2017.json", "val2017.zip.part"]
    served = server.served
    obtain(source, tmp_path)
    assert (server.served, files(tmp_path)) == (served, VAL_FILES)


def test_a_wrong_checksum_removes_what_was_fetched(source, server, tmp_path):
    wrong = bytes(SIZES[VAL])
    server.files[f"/{VAL}"] = wrong
    expected = source.archives[1].md5
    with pytest.raises(DataError, match=rf"the MD5 of '.*val2017.zip.part' is [0-9a-f]{{32}}; expected {expected};"):
        obtain(source, tmp_path)
    assert files(tmp_path) == ["annotations/instances_val2017.json"]
    server.files[f"/{VAL}"] = CONTENTS[VAL]
    obtain(source, tmp_path)
    assert files(tmp_path) == VAL_FILES


def test_archives_that_the_user_brought_are_taken_and_kept(source, server, tmp_path):
    for address in (ANNOTATIONS, VAL):
        (tmp_path / Path(address).name).write_bytes(CONTENTS[address])
    found = obtain(source, tmp_path)
    assert [item.origin for item in found] == ["given", "given"]
    assert server.requests == []
    assert files(tmp_path) == sorted([*VAL_FILES, "a.zip", "val2017.zip"])


def test_a_wrong_archive_that_the_user_brought_is_named_and_kept(source, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"half")
    with pytest.raises(
        DataError,
        match=rf"the MD5 of '{tmp_path}/a.zip' is [0-9a-f]{{32}}; expected {source.archives[0].md5}; remove it",
    ):
        obtain(source, tmp_path)
    assert files(tmp_path) == ["a.zip"]


def test_without_a_server_the_files_and_their_place_are_named(tmp_path):
    source = tiny_source("http://nowhere.invalid", CONTENTS)
    with pytest.raises(DataError, match=f"cannot get 'http://nowhere.invalid/{ANNOTATIONS}'") as caught:
        obtain(source, tmp_path / "coco")
    for part in (ANNOTATIONS, VAL, f"'{tmp_path / 'coco'}'", "`mirror`"):
        assert part in caught.value.hint
    assert TRAIN not in caught.value.hint, "what was not asked for"


def test_a_directory_that_holds_something_else_is_left_alone(source, tmp_path):
    own = tmp_path / "images" / "val2017" / "own.jpg"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"")
    with pytest.raises(DataError, match=re.escape(f"'{own.parent}' holds 1 files; expected the 3 of val2017.zip")):
        obtain(source, tmp_path)
    assert files(tmp_path) == ["images/val2017/own.jpg"]


def test_an_archive_with_names_that_lead_elsewhere_writes_nothing(source, server, tmp_path):
    evil = zipped({"val2017/../../../evil.jpg": b"evil", "val2017/a.jpg": b"", "val2017/b.jpg": b""})
    server.files[f"/{VAL}"] = evil
    changed = tiny_source(server.base, CONTENTS | {VAL: evil})
    with pytest.raises(DataError, match=r"holds the name 'val2017/\.\./\.\./\.\./evil\.jpg'"):
        obtain(changed, tmp_path / "root")
    assert list(tmp_path.rglob("*.jpg")) == []


Usage = namedtuple("Usage", "total used free")


def test_too_little_space_is_told_before_anything_is_fetched(source, server, tmp_path, monkeypatch):
    needed = space_needed({archive: archive.parts for archive in source.archives}, tmp_path)
    free = needed - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(needed, 1, free))
    with pytest.raises(OutputError, match=rf"'{tmp_path}/coco' has {free / 1e9:.2f} GB of free space; expected"):
        obtain(source, tmp_path / "coco", train=True)
    assert (server.requests, list(tmp_path.iterdir())) == ([], [])
    free = needed
    obtain(source, tmp_path / "coco", train=True)


def test_the_space_needed_falls_with_what_is_there(source, tmp_path):
    waiting = {archive: archive.parts for archive in source.archives[:2]}
    unpacked = [sum(part.size for part in archive.parts) for archive in source.archives[:2]]
    peaks = (SIZES[ANNOTATIONS] + unpacked[0], unpacked[0] + SIZES[VAL] + unpacked[1])
    assert space_needed(waiting, tmp_path) == max(peaks)
    (tmp_path / "val2017.zip.part").write_bytes(bytes(100))
    assert space_needed(waiting, tmp_path) == max(peaks[0], peaks[1] - 100)
    (tmp_path / "val2017.zip").write_bytes(b"")
    assert space_needed(dict(list(waiting.items())[1:]), tmp_path) == unpacked[1]
    assert space_needed({}, tmp_path) == 0


def test_a_directory_that_cannot_be_made_is_told(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=re.escape(f"cannot make '{tmp_path / 'file' / 'coco'}' (Not a directory)")):
        obtain(replace(source, archives=source.archives[1:]), tmp_path / "file" / "coco")
