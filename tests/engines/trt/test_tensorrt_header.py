from __future__ import annotations

import json
import random

import pytest
from odd_values import damaged, made

from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.engines.tensorrt.header import engine_metadata, header_info, read_engine, split_header, write_engine
from yoloqat.errors import ModelError

PROPS = {
    "names": "{0: 'cat', 1: 'dog ä'}",
    "stride": "8",
    "task": "detect",
    "imgsz": "[16, 32]",
    "batch": "2",
    "args": "{'nms': False}",
    "description": "a detector's file",
    "yoloqat_source": "{'path': 'somewhere'}",
}


def written(path, plan=b"plan", **more):
    write_engine(path, engine_metadata(PROPS, dynamic=False, dla=None, own={}) | more, plan)
    return path


def test_what_is_written_is_read(tmp_path):
    file = read_engine(written(tmp_path / "a.engine"))
    assert file.plan == b"plan"
    assert (file.info.names, file.info.imgsz, file.info.batch) == ({0: "cat", 1: "dog ä"}, (16, 32), 2)
    assert (file.info.stride, file.info.task, file.info.end2end) == (8, "detect", False)
    assert file.metadata["description"] == "a detector's file"
    assert "yoloqat_source" not in file.metadata
    assert file.own == {"schema": 1}


def test_length_is_that_of_the_bytes(tmp_path):
    data = written(tmp_path / "a.engine").read_bytes()
    length = int.from_bytes(data[:4], "little")
    assert json.loads(data[4 : 4 + length])["stride"] == 8
    assert data[4 + length :] == b"plan"


def test_ultralytics_reads_the_header(tmp_path):
    """Its own reader, and what its loader then does with the entries."""
    base = ultralytics_module("nn.backends.base").BaseBackend
    path = written(tmp_path / "a.engine")
    offset, metadata = base.engine_header(path)
    assert path.read_bytes()[offset:] == b"plan"
    backend = object.__new__(type("Backend", (base,), {"load_model": None, "forward": None}))
    backend.dynamic = True
    backend.apply_metadata(metadata)
    assert (backend.stride, backend.batch, backend.imgsz, backend.task) == (8, 2, [16, 32], "detect")
    assert (backend.names["1"], backend.end2end, backend.dynamic) == ("dog ä", False, False)


def test_engine_of_ultralytics(tmp_path):
    """Its exporter writes names with whole-number keys, which JSON turns into text, and may write literals as text."""
    file = read_engine(written(tmp_path / "a.engine", names="{0: 'cat'}", end2end=True, yoloqat="other"))
    assert file.info.names == {0: "cat"}
    assert file.info.end2end
    assert file.own == {}


def test_open_shapes(tmp_path):
    info = read_engine(written(tmp_path / "a.engine", args={"dynamic": True})).info
    assert (info.imgsz, info.batch) == (None, None)


@pytest.mark.parametrize("data", [b"", b"ftrt" + bytes(40), b"\x02\x00\x00\x00{}", b"\x03\x00\x00\x00[1]plan"])
def test_file_without_a_header(tmp_path, data):
    (tmp_path / "a.engine").write_bytes(data)
    with pytest.raises(ModelError, match=rf"a\.engine' of {len(data)} bytes does not begin with a header"):
        read_engine(tmp_path / "a.engine")


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"cannot read '.*none\.engine' \(No such file"):
        read_engine(tmp_path / "none.engine")


def test_header_without_sizes_or_names(tmp_path):
    with pytest.raises(ModelError, match=r"has the sizes \{'batch': 2, 'imgsz': None\}"):
        read_engine(written(tmp_path / "a.engine", imgsz=None))
    with pytest.raises(ModelError, match=r"a\.engine' has the metadata \['imgsz', 'stride'"):
        read_engine(written(tmp_path / "a.engine", names=None, args=None, end2end=None))


def test_whatever_a_header_says_ends_in_a_model_or_in_one_line(tmp_path):
    good = split_header(written(tmp_path / "a.engine").read_bytes())[0]
    rng = random.Random(0)
    for _ in range(500):
        info = made(lambda: header_info("a.engine", damaged(good, rng)))
        assert info is None or info.channels > 0


@pytest.mark.parametrize("text", ["[" * 100_000, '{"names": ' + "1" * 5000 + "}", "\x00", "{"])
def test_a_header_that_is_no_json_is_none(tmp_path, text):
    path = tmp_path / "a.engine"
    path.write_bytes(len(text).to_bytes(4, "little") + text.encode() + b"the plan")
    with pytest.raises(
        ModelError, match=rf"'{path}' of {len(text) + 12} bytes does not begin with a header and a plan"
    ):
        read_engine(path)


@pytest.mark.parametrize("size", [0, -1, float("inf")])
def test_batch_that_no_engine_has(tmp_path, size):
    with pytest.raises(ModelError, match=rf"metadata 'batch' of '.*a.engine' is {size}; expected a whole number"):
        read_engine(written(tmp_path / "a.engine", batch=size))
