"""What Ultralytics makes of a data set YAML and of lists of images, and what we make of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

from yoloqat.datasets.dataset_yaml import read_dataset_file
from yoloqat.datasets.splits import split_images
from yoloqat.errors import YoloqatError, YoloqatWarning

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
    "train: images/train\nval: images/val\nnames: [café, c\0at, a\x07b]",
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
    file.write_bytes(text.format(root=tmp_path).encode("cp1252"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", YoloqatWarning)
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


@pytest.mark.parametrize(
    "sources",
    [
        {"a.txt": "./images/train/0.png\n\n./images/train/1.PNG\n"},
        {"a.txt": "\ufeffimages/train/0.png\r\n  \r\n", "b.txt": "{root}/images/val/0.png"},
        {"a.txt": "# those that count\nimages/train/0.png\nimages/train/notes.txt\n"},
        {"a.txt": "images/train/0.png\nimages/train/0.png\n"},
        {"images/train": None, "a.txt": "images/val/0.png"},
        {"images": None},
    ],
    ids=range(6),
)
def test_lists_and_directories_hold_the_same_images(check, tmp_path, image_at, sources):
    base = pytest.importorskip("ultralytics.data.base")
    for name in ("train/0.png", "train/1.PNG", "train/.hidden.png", "train/deep/2.png", "val/0.png"):
        image_at(tmp_path / "images" / name)
    (tmp_path / "images" / "linked").symlink_to(tmp_path / "images" / "val")
    for name, text in sources.items():
        if text is not None:
            (tmp_path / name).write_text(text.format(root=tmp_path))
    paths = [tmp_path / name for name in sources]
    dataset = SimpleNamespace(prefix="", fraction=1.0)
    theirs = base.BaseDataset.get_img_files(dataset, [str(path) for path in paths])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", YoloqatWarning)
        ours = split_images(tuple(paths), tmp_path, "train")
    assert [str(path.absolute()) for path in ours] == sorted(str(Path(path).absolute()) for path in theirs)
