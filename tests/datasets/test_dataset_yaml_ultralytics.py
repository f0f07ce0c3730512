"""What Ultralytics makes of a data set YAML, and what we make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from yoloqat.datasets.dataset_yaml import read_dataset_file
from yoloqat.errors import YoloqatError

YAMLS = [
    "train: images/train\nval: images/val\nnames: [cat, dog]",
    "train: ../images/train\nval: ../images/val\nnc: 2\nnames: [cat, dog]",
    "path: {root}\ntrain: [images/train, images/val]\nval: {root}/images/val\nnames: {{0: cat, 1: dog}}",
    "train: ./images/train\nvalidation: images/val\nnames: {{'1': dog, '0': cat}}",
    "train: images/train\nval: images/val\nnc: '2'",
    "train: images/train\nval: images/val\nnc: 2.0\nnames: null",
    "path: None\ntrain: images/train\nval: images/val\nnames: [1, yes, null, 2026-01-05, cat, cat]",
    "train: &t images/train\nval: *t\nnames: [cat]",
    "path: images\ntrain: train\nval: val\nnames: [cat]",
    "train: images/train\nval: images/val\nnames: [cat]\ndownload: |\n  never run",
]

REFUSED = [
    "train: images/train\nval: images/val\nnames: []",
    "train: images/train\nval: images/val\nnames: {{0: a, 2: b}}",
    "train: images/train\nval: images/val\nnames: {{a: 0}}",
    "train: images/train\nval: images/val\nnc: 3\nnames: [cat, dog]",
    "train: images/train\nval: images/val\nnc: 1.9",
    "train: images/train\nval: images/val\nnames: cat",
    "path: 7\ntrain: images/train\nval: images/val\nnames: [cat]",
    "train: images/train\nval: 7\nnames: [cat]",
    "- a",
    "a: [1",
    "",
]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Return Ultralytics' reader, which then fetches no font, in a directory with images."""
    utils = pytest.importorskip("ultralytics.data.utils")
    monkeypatch.setattr(utils, "check_font", lambda name: None)
    for split in ("train", "val"):
        (tmp_path / "images" / split).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return utils.check_det_dataset


@pytest.mark.parametrize("text", YAMLS)
def test_what_it_accepts_we_read_the_same(check, tmp_path, text):
    file = tmp_path / "d.yaml"
    file.write_text(text.format(root=tmp_path))
    theirs, ours = check(str(file), autodownload=False), read_dataset_file(file)
    assert ours.names == theirs["names"]
    for split in ("train", "val"):
        known = theirs[split] if isinstance(theirs[split], list) else [theirs[split]]
        assert [str(path.resolve()) for path in getattr(ours, split)] == known


@pytest.mark.parametrize("text", REFUSED)
def test_what_it_refuses_we_refuse(check, tmp_path, text):
    file = tmp_path / "d.yaml"
    file.write_text(text.format(root=tmp_path))
    with pytest.raises(Exception, match=r"."):
        check(str(file), autodownload=False)
    with pytest.raises(YoloqatError, match=r"d.yaml'"):
        read_dataset_file(file)
