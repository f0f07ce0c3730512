from __future__ import annotations

import random

import pytest
from odd_values import damaged, made

from yoloqat.engines.model_info import model_info
from yoloqat.errors import ModelError
from yoloqat.onnx_graph.file import input_shape, load_onnx, properties

SHAPE = (1, 3, 64, 96)


def test_info_of_a_file(qdq_path):
    model = load_onnx(qdq_path)
    info = model_info("m.onnx", properties(model), input_shape(model))
    assert (info.names, info.stride, info.task, info.end2end) == ({0: "cat", 1: "dog"}, 8, "detect", False)
    assert (info.imgsz, info.batch) == ((16, 16), 1)


def test_open_dimensions_are_none(tiny):
    shape = input_shape(tiny(batch="batch"))
    assert shape == (None, 3, 16, 16)
    info = model_info("m", {"names": "['a']"}, (None, 3, None, 64))
    assert (info.batch, info.imgsz, info.names) == (None, None, {0: "a"})


@pytest.mark.parametrize("props", [{"end2end": "True"}, {"args": "{'nms': True}"}])
def test_head_that_suppresses_by_itself(props):
    assert model_info("m", {"names": "{0: 'a'}", **props}, SHAPE).end2end


@pytest.mark.parametrize(
    ("props", "shape", "told"),
    [
        ({"stride": "32"}, SHAPE, r"'m\.onnx' has the metadata \['stride'\]"),
        ({"names": "{0: 'a'"}, SHAPE, r"metadata 'names' of 'm\.onnx' is \"\{0: 'a'\""),
        ({"names": "{0: 'a', 2: 'b'}"}, SHAPE, r"metadata 'names' of 'm\.onnx' is \{0: 'a', 2: 'b'\}"),
        ({"names": "{}"}, SHAPE, r"metadata 'names' of 'm\.onnx' is \{\}"),
        ({"names": "['a']", "stride": "-3"}, SHAPE, r"metadata 'stride' of 'm\.onnx' is -3"),
        ({"names": "['a']"}, (1, 5), r"the input of 'm\.onnx' has 2 dimensions"),
        (
            {"names": "['a']", "stride": "0"},
            SHAPE,
            r"metadata 'stride' of 'm\.onnx' is 0; expected a whole number from 1",
        ),
        (
            {"names": "['a']", "task": "classify"},
            SHAPE,
            r"metadata 'task' of 'm\.onnx' is 'classify'; expected one of detect",
        ),
        ({"names": "['a']", "imgsz": "[]"}, SHAPE, r"metadata 'imgsz' of 'm\.onnx' is \[\]; expected one side"),
        (
            {"names": "['a']", "imgsz": "abc"},
            SHAPE,
            r"metadata 'imgsz' of 'm\.onnx' is 'abc'; expected a Python literal",
        ),
        (
            {"names": "['a']", "imgsz": "[640, -1]"},
            SHAPE,
            r"metadata 'imgsz' of 'm\.onnx' is -1; expected a whole number",
        ),
        (
            {"names": "['a']", "imgsz": "[64.0, 96]"},
            SHAPE,
            r"metadata 'imgsz' of 'm\.onnx' is 64\.0; expected a whole number",
        ),
        (
            {"names": "['a']", "imgsz": "1" * 30},
            SHAPE,
            r"metadata 'imgsz' of 'm\.onnx' is 1{30}; expected a whole number",
        ),
        ({"names": "['a']", "end2end": "1"}, SHAPE, r"metadata 'end2end' of 'm\.onnx' is 1; expected True or False"),
        ({"names": "['a']", "args": "[]"}, SHAPE, r"metadata 'args' of 'm\.onnx' is \[\]; expected a dict"),
        ({"names": "['a']", "channels": "0"}, SHAPE, r"metadata 'channels' of 'm\.onnx' is 0; expected a whole number"),
        ({"names": "(" * 5000}, SHAPE, r"metadata 'names' of 'm\.onnx' is '\(+\.\.\.\(+'; expected a Python literal"),
        ({"names": "{[]: 1}"}, SHAPE, r"metadata 'names' of 'm\.onnx' is '\{\[\]: 1\}'; expected a Python literal"),
        (
            {"names": "['a']"},
            (1, 3, 64, 9000),
            r"metadata 'imgsz' of 'm\.onnx' is 9000; expected a whole number from 1 to 8192",
        ),
        (
            {"names": "['a']"},
            (1, 1600, 64, 64),
            r"metadata 'channels' of 'm\.onnx' is 1600; expected a whole number from 1 to 1024",
        ),
        (
            {"names": "['a']"},
            (1 << 40, 3, 64, 64),
            r"metadata 'batch' of 'm\.onnx' is 1099511627776; expected a whole number",
        ),
    ],
)
def test_metadata_that_does_not_do(props, shape, told):
    with pytest.raises(ModelError, match=told):
        model_info("m.onnx", props, shape)


def test_the_size_is_the_inputs_whatever_the_metadata_say():
    info = model_info("m.onnx", {"names": "['a']", "imgsz": "[640, 640]", "channels": "3"}, (1, 1, 64, 96))
    assert (info.imgsz, info.channels) == ((64, 96), 1)
    assert (
        model_info("m.onnx", {"names": "['a']", "imgsz": "640", "channels": "4"}, (1, None, None, None)).channels == 4
    )


def test_whatever_the_properties_say_ends_in_a_model_or_in_one_line():
    good = {"names": {0: "a", 1: "b"}, "stride": 32, "task": "detect", "imgsz": [64, 96], "args": {"nms": False}}
    rng = random.Random(0)
    for _ in range(1000):
        props = {key: str(value) for key, value in damaged(good, rng).items()}
        key = rng.choice(sorted(props) or [""])
        if key and rng.random() < 0.3:  # damage the text itself
            text, place = props[key], rng.randrange(len(props[key]) + 1)
            props[key] = text[:place] + rng.choice(["", "\0", "[", "}", "'", "9" * 5000, "(" * 300]) + text[place:]
        info = made(lambda props=props: model_info("m.onnx", props, SHAPE))
        assert info is None or info.names
