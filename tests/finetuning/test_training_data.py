from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from tiny_detector import NAMES, TinyData

from yoloqat.datasets.dataset_yaml import read_dataset_file
from yoloqat.datasets.splits import split_images
from yoloqat.datasets.yolo_labels import label_path
from yoloqat.errors import DataError, OutputError, YoloqatWarning
from yoloqat.finetuning.training_data import training_file


def test_images_and_labels_are_reached_through_links(tiny_data: TinyData, tmp_path: Path) -> None:
    for _ in range(2):  # a second call finds the links of the first
        file = training_file(tiny_data.yaml, tmp_path / "links", NAMES)
    spec = read_dataset_file(file)
    assert spec.names == NAMES
    for split, folder in (("train", tiny_data.train), ("val", tiny_data.images)):
        images = split_images(getattr(spec, split), spec.root, split)
        assert [path.resolve() for path in images] == sorted(folder.resolve().iterdir())
        assert all(tmp_path in path.parents for path in images)
    validation = split_images(spec.val, spec.root, "val")
    assert all(label_path(path).is_file() for path in validation)
    assert len({label_path(path).parent for path in validation}) == 1
    assert tmp_path in label_path(validation[0]).parent.with_suffix(".cache").parents


def test_directories_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    for place in ("a", "b"):
        folder = tmp_path / place / "images" / "train"
        folder.mkdir(parents=True)
        (folder / "0.jpg").write_bytes(b"")
    source = tmp_path / "data.yaml"
    source.write_text(
        yaml.safe_dump({"train": ["a/images/train", "b/images/train"], "val": "a/images/train", "names": NAMES})
    )
    spec = read_dataset_file(training_file(source, tmp_path / "links", NAMES))
    found = {path.resolve().parents[2].name for path in split_images(spec.train, spec.root, "train")}
    assert found == {"a", "b"}


def test_classes_go_by_their_index_and_other_names_are_told(tiny_data: TinyData, tmp_path: Path) -> None:
    names = {0: "box", 1: "disc", 2: "star"}
    with pytest.warns(YoloqatWarning, match=r"2 of 3 classes have other names .* e.g. class 0 'disc' and 'box'"):
        file = training_file(tiny_data.yaml, tmp_path, names)
    assert read_dataset_file(file).names == names


def test_another_number_of_classes_is_refused(tiny_data: TinyData, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="has 3 classes: disc, box, star; expected the detector's 2, in its order: box, disc"
    ):
        training_file(tiny_data.yaml, tmp_path, {0: "box", 1: "disc"})


def test_a_repeated_line_is_trained_on_as_often(tiny_data: TinyData, tmp_path: Path) -> None:
    image = tiny_data.train / "000.png"
    (tmp_path / "train.txt").write_text(f"{image}\n{image}\n")
    source = tmp_path / "data.yaml"
    source.write_text(yaml.safe_dump({"train": "train.txt", "val": str(tiny_data.images), "names": NAMES}))
    training_file(source, tmp_path / "links", NAMES)
    assert len(set((tmp_path / "links" / "train.txt").read_text().splitlines())) == 1
    assert (tmp_path / "links" / "train.txt").read_text().count("000.png") == 2


@pytest.mark.parametrize(("name", "shown"), [("a\nb.png", "a b.png"), ("\udce9.png", "\\udce9.png")])
def test_an_image_whose_name_cannot_stand_in_a_list_is_named(tmp_path: Path, name: str, shown: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / name).write_bytes(b"")
    source = tmp_path / "data.yaml"
    source.write_text(yaml.safe_dump({"train": "images", "val": "images", "names": NAMES}))
    with pytest.raises(DataError, match=re.escape(f"{shown}' cannot be listed for a training")):
        training_file(source, tmp_path / "links", NAMES)


def test_a_link_that_cannot_be_made_is_named(tiny_data: TinyData, tmp_path: Path) -> None:
    (tmp_path / "images" / "0-train").mkdir(parents=True)
    with pytest.raises(OutputError, match=rf"cannot link '{tmp_path}/images/0-train' to '.*train' \(File exists\)"):
        training_file(tiny_data.yaml, tmp_path, NAMES)


def test_a_missing_split_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "data.yaml"
    source.write_text(yaml.safe_dump({"val": "images", "names": NAMES}))
    with pytest.raises(DataError, match=r"data set '.*data.yaml' has no train split"):
        training_file(source, tmp_path / "links", NAMES)
