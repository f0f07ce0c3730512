from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloqat.datasets.dataset_yaml import read_dataset_file
from yoloqat.errors import DataError, YoloqatWarning


def read(tmp_path, text):
    file = tmp_path / "d.yaml"
    file.write_text(text)
    return read_dataset_file(file)


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
        ("names: []", r"names of data set .*d.yaml' are \[\]"),
        ("names: {}", r"names of data set .*d.yaml' are {}"),
        ("names: {0: a, '0': b}", r"d.yaml' are {0: 'a', '0': 'b'}"),
        ("names: {0.5: a}", r"d.yaml' are {0.5: 'a'}"),
        ("names: [[a, b]]", r"d.yaml' are \[\['a', 'b'\]\]"),
        ("names: a.txt", "d.yaml' are 'a.txt'"),
        (r'names: ["a\0b"]', r"names of data set .*d.yaml' are \['a\\x00b'\]"),
        (r'names: ["\ud800"]', r"names of data set .*d.yaml' are \['\\ud800'\]"),
        (r'val: "\0"' + "\nnames: [a]", r"val of data set .*d.yaml' is '\\x00'"),
        (r'train: ["\ud800"]' + "\nnames: [a]", r"train of data set .*d.yaml' is \['\\ud800'\]"),
        (r'path: "\0"' + "\nnames: [a]", r"path of data set .*d.yaml' is '\\x00'"),
        ("path: 2026-01-05\nnames: [a]", r"path of data set .* is datetime.date\(2026, 1, 5\); .*; write it in quotes"),
        ("val: [a, null]\nnames: [a]", r"val of data set .*d.yaml' is \['a', None\]"),
        ("val: true\nnames: [a]", "val of data set .*d.yaml' is True"),
        ("nc: 0", "nc of data set .*d.yaml' is 0; expected a number of classes from 1 to 100000"),
        ("nc: 1.5", "nc of data set .*d.yaml' is 1.5"),
        ("nc: .nan", "nc of data set .*d.yaml' is nan"),
        ("nc: 1000000000", "nc of data set .*d.yaml' is 1000000000"),
        ("nc: many", "nc of data set .*d.yaml' is 'many'"),
        ("nc: [2]", r"nc of data set .*d.yaml' is \[2\]"),
        (f"nc: 0x{'f' * 5000}", "nc of data set .*d.yaml' is a long int"),
        ("nc: 3\nnames: [a, b]", "d.yaml' has 2 names and nc is 3"),
        ("val: x\nnames: 3", "d.yaml' are 3"),
        ("val: x\nnames: {0: a, 2: b}", r"d.yaml' are {0: 'a', 2: 'b'}"),
        ("val: 7\nnames: [a]", "val of data set .*d.yaml' is 7"),
        ("train: {a: b}\nnames: [a]", r"train of data set .*d.yaml' is {'a': 'b'}"),
    ],
)
def test_a_malformed_yaml_is_told(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("[cat, dog]", {0: "cat", 1: "dog"}),
        ("{0: cat, 1: dog}", {0: "cat", 1: "dog"}),
        ("{'1': dog, '0': cat}", {0: "cat", 1: "dog"}),
        ("[1, no, 2026-01-05]", {0: "1", 1: "False", 2: "2026-01-05"}),
        ("[cat, cat]", {0: "cat", 1: "cat"}),
        ("{0: null}", {0: "None"}),
    ],
)
def test_names_are_read_as_ultralytics_reads_them(tmp_path, names, found):
    assert read(tmp_path, f"names: {names}\n").names == found


@pytest.mark.parametrize("nc", ["2", "2.0", "'2'"])
def test_a_number_of_classes_stands_in_for_names(tmp_path, nc):
    assert read(tmp_path, f"nc: {nc}\n").names == {0: "class_0", 1: "class_1"}
    assert read(tmp_path, f"nc: {nc}\nnames: [a, b]\n").names == {0: "a", 1: "b"}


def test_splits_of_roboflow_lie_beside_the_yaml(tmp_path):
    for split in ("train", "valid"):
        (tmp_path / split / "images").mkdir(parents=True)
    spec = read(tmp_path, "train: ../train/images\nval: [../valid/images, '..\\train\\images']\nnames: [a]\n")
    assert spec.train == (tmp_path / "train" / "images",)
    assert spec.val == (tmp_path / "valid" / "images", tmp_path / "train" / "images")


def test_what_the_leading_dots_name_comes_first_where_it_is_there(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "in" / "train").mkdir(parents=True)
    assert read(tmp_path / "in", "train: ../train\nnames: [a]\n").train == (tmp_path / "in" / ".." / "train",)


def test_a_path_is_found_beside_the_yaml_or_from_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "work" / "sets" / "mine").mkdir(parents=True)
    (tmp_path / "yaml").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    text = "path: sets\\mine\nval: images\nnames: [a]\n"
    assert read(tmp_path / "yaml", text).val == (Path("sets/mine/images"),)
    (tmp_path / "yaml" / "sets" / "mine").mkdir(parents=True)
    assert read(tmp_path / "yaml", text).val == (tmp_path / "yaml" / "sets" / "mine" / "images",)


def test_none_in_words_and_the_long_name_of_val_are_read(tmp_path):
    spec = read(tmp_path, "path: None\ntrain: None\nvalidation: images\nnames: [a]\n")
    assert (spec.root, spec.train, spec.val) == (tmp_path, (), (tmp_path / "images",))


def test_a_repeated_key_is_told_and_the_last_counts(tmp_path):
    with pytest.warns(YoloqatWarning, match=r"d.yaml' has 2 keys more than once, e.g. 'val'; the last of each"):
        assert read(tmp_path, "val: x\nval: y\nnames: [a]\nnames: [b]\n").val == (tmp_path / "y",)


def test_what_is_no_text_is_left_out_with_a_word(tmp_path):
    file = tmp_path / "d.yaml"
    file.write_bytes("# données\nnames: [café, a\x07b]\n".encode("cp1252"))
    with pytest.warns(YoloqatWarning, match=r"d.yaml' has 3 characters that are no text in UTF-8; they are left out"):
        assert read_dataset_file(file).names == {0: "caf", 1: "ab"}


def test_what_would_not_end_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "fifo.yaml")
    with pytest.raises(DataError, match=re.escape("data set '/dev/zero' cannot be read (it is no regular file)")):
        read_dataset_file(Path("/dev/zero"))
    with pytest.raises(DataError, match=r"data set '.*fifo.yaml' cannot be read \(it is no regular file\)"):
        read_dataset_file(tmp_path / "fifo.yaml")
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(1 << 23)
    with pytest.raises(DataError, match=r"large.yaml' cannot be read \(it has 8388608 bytes, more than 4194304\)"):
        read_dataset_file(tmp_path / "large.yaml")
    with pytest.raises(DataError, match=r"data set 'x{499}\.\.\. cannot be read \(File name too long\)"):
        read_dataset_file(Path("x" * 5000))


VALUES = st.recursive(
    st.sampled_from(
        [
            "a",
            "1",
            "-1",
            "null",
            "None",
            "true",
            "1e999",
            ".nan",
            "2026-13-45",
            "2026-01-05",
            "190:20:30",
            "'../a'",
            "~",
            "''",
            r'"\0"',
            r'"\ud800"',
            "&x a",
            "*x",
            "&y [*y]",
            "!!python/object:os.system x",
            "!!int x",
            "!!timestamp x",
            "!!binary x",
            "!!bool x",
            "!!int ''",
            "0x" + "f" * 5000,
            "9" * 5000,
            "x" * 5000,
            "<<",
            "=",
            "/dev/zero",
            "C:\\a",
        ]
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        st.lists(st.tuples(inner, inner), max_size=3).map(
            lambda pairs: "{" + ", ".join(f"? {key} : {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=6,
)
DOCUMENTS = st.one_of(
    st.tuples(
        st.sampled_from(["", "names: [a]\n", "nc: 2\n"]),
        st.dictionaries(
            st.sampled_from(["path", "train", "val", "validation", "names", "nc", "kpt_shape", "<<", "other"]),
            st.one_of(st.sampled_from(["a", "[a, '../b']", "", "[17, 3]", "[x, y]"]), VALUES),
            max_size=4,
        ),
    ).map(lambda parts: (parts[0] + "\n".join(f"{key}: {value}" for key, value in parts[1].items())).encode()),
    VALUES.map(str.encode),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=40),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(content=DOCUMENTS)
def test_whatever_a_yaml_holds_a_data_set_or_one_line_come_out(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    file.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", YoloqatWarning)
        try:
            names, told = read_dataset_file(file).names, ""
        except DataError as error:
            names, told = {0: ""}, str(error)
    assert told.isprintable()
    assert sorted(names) == list(range(len(names)))
    assert all(type(name) is str for name in names.values())
