from __future__ import annotations

import re

import pytest

from yoloqat.datasets.splits import read_dataset_file, read_text, split_images
from yoloqat.errors import DataError


def test_paths_are_relative_to_the_yaml_and_its_path(tmp_path):
    file = tmp_path / "d.yaml"
    file.write_text("path: root\ntrain: [a, b.txt]\nval: c\nnames: {1: dog, 0: ' cat '}\n")
    spec = read_dataset_file(file)
    assert spec.train == (tmp_path / "root" / "a", tmp_path / "root" / "b.txt")
    assert spec.val == (tmp_path / "root" / "c",)
    assert spec.names == {0: "cat", 1: "dog"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("just text", "d.yaml' holds a str"),
        ("", "d.yaml' holds a NoneType"),
        ("a: [1", "d.yaml' is not YAML"),
        ("val: x", "d.yaml' are None"),
        ("val: x\nnames: 3", "d.yaml' are 3"),
        ("val: x\nnames: {0: a, 2: b}", r"d.yaml' are {0: 'a', 2: 'b'}"),
        ("val: 7\nnames: [a]", "val of data set .*d.yaml' is 7"),
        ("train: {a: b}\nnames: [a]", r"train of data set .*d.yaml' is {'a': 'b'}"),
    ],
)
def test_a_malformed_yaml_is_told(tmp_path, text, message):
    file = tmp_path / "d.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_dataset_file(file)


def test_a_missing_unreadable_or_binary_file_is_named(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"data set '{tmp_path / 'no.yaml'}' does not exist")):
        read_text(tmp_path / "no.yaml", "data set")
    with pytest.raises(DataError, match=re.escape(f"data set '{tmp_path}' cannot be read (Is a directory)")):
        read_text(tmp_path, "data set")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"b.yaml' cannot be read \(it is not UTF-8 text\)"):
        read_text(tmp_path / "b.yaml", "data set")


def test_a_split_may_mix_lists_directories_and_images(tmp_path, image_at):
    listed = image_at(tmp_path / "one" / "a.png")
    inside = image_at(tmp_path / "two" / "b.png")
    single = image_at(tmp_path / "c.png")
    from_root = image_at(tmp_path / "root" / "d.png")
    (tmp_path / "one" / "list.txt").write_text("\ufeff./a.png\n\nd.png\n")
    sources = (tmp_path / "one" / "list.txt", tmp_path / "two", single)
    assert split_images(sources, tmp_path / "root", "val") == sorted([listed, inside, single, from_root])


def test_an_empty_list_a_foreign_line_a_missing_and_a_repeated_image_are_named(tmp_path, image_at):
    image_at(tmp_path / "a.png")
    file = tmp_path / "list.txt"
    for content, message in (
        ("\n", f"val split '{file}' names no images"),
        ("a.png\nnotes.doc\n", f"'notes.doc' in image list '{file}' is no image"),
        ("a.png\nb.png\n", f"image '{tmp_path / 'b.png'}' of val split '{file}' does not exist"),
        ("a.png\n./a.png\n", f"image '{tmp_path / 'a.png'}' is named more than once in val split '{file}' (1 such"),
    ):
        file.write_text(content)
        with pytest.raises(DataError, match=re.escape(message)):
            split_images((file,), tmp_path, "val")


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"image list '{tmp_path / 'val.txt'}' does not exist")):
        split_images((tmp_path / "val.txt",), tmp_path, "val")
