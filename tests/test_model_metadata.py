from __future__ import annotations

import random
import re

import pytest
from odd_values import damaged, made

from yoloqat.errors import ModelError
from yoloqat.metadata import checked_info, checked_names, plain_value
from yoloqat.predictor import ModelInfo

GOOD = {
    "names": {0: "cat"},
    "stride": 16,
    "task": "pose",
    "end2end": True,
    "imgsz": [384, 640],
    "batch": 2,
    "channels": 4,
}


def test_every_entry_is_taken():
    expected = ModelInfo({0: "cat"}, 16, "pose", end2end=True, imgsz=(384, 640), batch=2, channels=4)
    assert checked_info("m", GOOD, hint="") == expected


def test_what_is_absent_or_none_is_the_default():
    assert checked_info("m", {"names": ["a", "b"], "stride": None}, hint="") == ModelInfo({0: "a", 1: "b"})


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        *(("stride", value, "a whole number from 1 to 8192") for value in (0, -32, 32.0, "32", True, 10**30, [])),
        *(("task", value, "one of detect, segment, pose, obb") for value in ("classify", "", 7, ["detect"])),
        *(("end2end", value, "True or False") for value in (1, "True", [])),
        *(("imgsz", value, "one side, or height and width") for value in ([], [1, 2, 3], ())),
        *(("imgsz", value, "a whole number from 1 to 8192") for value in ("abc", -640, 640.5, {}, 10**9, True)),
        *(("batch", value, "a whole number from 1 to 1048576") for value in (0, -1, 1.5, "1", 1 << 40)),
        *(("channels", value, "a whole number from 1 to 1024") for value in (0, -3, 3.0, "3", 1 << 40)),
        *(
            ("names", value, "class names numbered from 0")
            for value in ([], {}, (), "cat", 5, {1: "a"}, {0: "a", 2: "b"})
        ),
        *(("names", value, "class names numbered from 0") for value in ({"0": "a", 0: "b"}, {-1: "a"}, {True: "a"})),
        *(("names", value, "class names numbered from 0") for value in ({"x": "a"}, {"9" * 5000: "a"}, {0.0: "a"})),
    ],
)
def test_what_does_not_do_is_named(key, value, told):
    with pytest.raises(ModelError, match=f"^metadata '{key}' of 'm.x' is .*; expected {told}.*; do this$") as caught:
        checked_info("m.x", GOOD | {key: value}, hint="do this")
    assert len(str(caught.value)) < 400
    if len(repr(value)) < 30:
        assert f"is {value!r};" in str(caught.value)


@pytest.mark.parametrize("value", [[320], [384, -1], [384, 640.0], ["a", "b"]])
def test_each_side_is_checked(value):
    if value == [320]:
        assert checked_info("m", GOOD | {"imgsz": value}, hint="").imgsz == (320, 320)
        return
    with pytest.raises(ModelError, match=re.escape(f"metadata 'imgsz' of 'm' is {value[value != ['a', 'b']]!r};")):
        checked_info("m", GOOD | {"imgsz": value}, hint="")


@pytest.mark.parametrize("name", [None, ["a"], {"a": 1}, True, "\ud800", "a\0b"])
def test_names_must_be_text_that_can_be_written(name):
    with pytest.raises(ModelError, match=re.escape(f"metadata 'names[1]' of 'm' is {name!r}; expected a name")):
        checked_names("m", ["cat", name], hint="")


def test_numbers_and_the_keys_of_json_are_names_too():
    assert checked_names("m", {"1": 5, "0": "a"}, hint="") == {0: "a", 1: "5"}


def test_missing_names_are_told():
    with pytest.raises(ModelError, match=re.escape("'m' has the metadata ['stride', 'task']; expected class names")):
        checked_info("m", {"task": "detect", "stride": 3}, hint="")


def test_whatever_is_given_ends_in_a_model_or_in_one_line():
    rng = random.Random(0)
    infos = [made(lambda: checked_info("m", damaged(GOOD, rng), hint="")) for _ in range(2000)]
    assert 100 < infos.count(None) < 1900
    for info in infos:
        assert info is None or (info.stride > 0 and list(info.names) == list(range(info.classes)))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("32", 32),
        ("[1, 2]", [1, 2]),
        ("{0: 'a'}", {0: "a"}),
        ("detect", "detect"),
        ("None", None),
        ("True", True),
        ("", ""),
    ],
)
def test_a_literal_gives_its_value_and_other_text_itself(text, value):
    assert plain_value(text) == value


@pytest.mark.parametrize(
    "text", ["...", "1j", "{1, 2}", "b'a'", "{(1, 2): 3}", "{[]: 1}", "(" * 300, "9" * 5000, "a\0b", "[" * 5000]
)
def test_literals_that_neither_json_nor_yaml_holds_stay_text(text):
    assert plain_value(text) == text
