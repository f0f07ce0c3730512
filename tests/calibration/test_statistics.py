from __future__ import annotations

import errno
import json
import math
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yoloqat.calibration import Statistics
from yoloqat.errors import CalibrationError, OutputError
from yoloqat.quant.calib import Histogram


@pytest.fixture
def statistics() -> Statistics:
    rng = np.random.default_rng(0)
    histograms = {
        name: Histogram(
            rng.integers(0, 1 << 40, size=bins), np.linspace(0, high, bins + 1, dtype=np.float32), low=low, high=high
        )
        for name, bins, low, high in (("model.0.conv", 300, 0.0, 1.0), ("model.1", 7, -0.27846458554267883, 11.0625))
    }
    return Statistics(histograms, images=5, seconds=0.125, tensors={"model.1": dict(histograms)})


def assert_same(a: Statistics, b: Statistics) -> None:
    assert (a.images, a.seconds, list(a.tensors)) == (b.images, b.seconds, list(b.tensors))
    for ours, theirs in [(a.histograms, b.histograms), *((a.tensors[name], b.tensors[name]) for name in a.tensors)]:
        assert_equal(ours, theirs)


def assert_equal(a: dict[str, Histogram], b: dict[str, Histogram]) -> None:
    assert list(a) == list(b)
    for name, histogram in a.items():
        other = b[name]
        assert (histogram.low, histogram.high) == (other.low, other.high)
        assert (histogram.counts.dtype, histogram.edges.dtype) == (other.counts.dtype, other.edges.dtype)
        np.testing.assert_array_equal(histogram.counts, other.counts)
        np.testing.assert_array_equal(histogram.edges, other.edges)


def test_what_was_saved_is_loaded_bit_for_bit(statistics: Statistics, tmp_path: Path) -> None:
    statistics.save(tmp_path / "deep" / "statistics.npz")
    assert_same(Statistics.load(tmp_path / "deep" / "statistics.npz"), statistics)


def test_no_layers_are_saved_and_loaded(tmp_path: Path) -> None:
    Statistics({}, images=0, seconds=0.0).save(tmp_path / "s.npz")
    assert Statistics.load(tmp_path / "s.npz") == Statistics({}, images=0, seconds=0.0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"absent\.npz' cannot be read"):
        Statistics.load(tmp_path / "absent.npz")


@pytest.mark.parametrize("kept", [0, 1, 4, 40, 300, -200, -22, -1])
def test_a_file_cut_short_is_named(statistics: Statistics, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "s.npz"
    statistics.save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CalibrationError, match=r"s\.npz' cannot be read .*remove it and collect again"):
        Statistics.load(path)


def test_damage_anywhere_is_an_error_or_without_effect(statistics: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    statistics.save(path)
    content = path.read_bytes()
    found = 0
    for position in range(0, len(content), 11):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        try:
            assert_same(Statistics.load(path), statistics)
        except CalibrationError:
            found += 1
    assert found > len(content) / 11 / 2


@pytest.mark.parametrize("content", [b"weights of nothing", b"", b"PK\x03\x04 not really", b"\x93NUMPY\x01\x00"])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(CalibrationError, match=r"s\.npz' cannot be read"):
        Statistics.load(tmp_path / "s.npz")


@pytest.mark.parametrize("header", ["[]", "{}", "3", '{"ranges": {"a": [0]}}', '{"ranges": {}, "images": 1}', "{"])
def test_a_header_of_another_kind_is_named(tmp_path: Path, header: str) -> None:
    np.savez(tmp_path / "s.npz", header=np.array(header))
    with pytest.raises(CalibrationError, match=r"s\.npz' cannot be read"):
        Statistics.load(tmp_path / "s.npz")


def test_a_full_disk_leaves_nothing_behind(
    statistics: Statistics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match=r"s\.npz' \(No space left on device\)"):
        statistics.save(tmp_path / "s.npz")
    assert list(tmp_path.iterdir()) == []


HEADER = {"ranges": {"model.0": [0.0, 4.0]}, "images": 5, "seconds": 0.5, "made_of": {}}
COUNTS, EDGES = np.array([3, 0, 2, 1], np.int64), np.arange(5, dtype=np.float32)


def written(path: Path, header: Any = None, **arrays: Any) -> Path:
    text = header if isinstance(header, np.ndarray) else np.array(json.dumps(HEADER if header is None else header))
    content = {"header": text, "counts0": COUNTS, "edges0": EDGES} | arrays
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"counts0": np.array([3, None], object)}, "Object arrays cannot be loaded"),
        ({"header": np.array({"ranges": {}}, object)}, "Object arrays cannot be loaded"),
        ({"header": np.array("{")}, "Expecting property name"),
        ({"header": [1]}, "list indices must be"),
        ({"header": {"ranges": {}}}, "'images'"),
        ({"header": HEADER | {"ranges": {"model.0": [0.0]}}}, "expected 2, got 1"),
        ({"header": HEADER | {"ranges": {"model.0": ["a", "b"]}}}, r"'model.0' has the range \['a', 'b'\]"),
        ({"header": HEADER | {"ranges": {"model.0": [math.nan, 4.0]}}}, r"'model.0' has the range \[nan, 4.0\]"),
        ({"header": HEADER | {"ranges": {"model.0": [0.0, math.inf]}}}, r"'model.0' has the range \[0.0, inf\]"),
        ({"header": HEADER | {"ranges": {"model.0": [5.0, 4.0]}}}, r"'model.0' has the range \[5.0, 4.0\]"),
        ({"header": HEADER | {"images": "many"}}, "'many'"),
        ({"header": HEADER | {"made_of": 4}}, "'int' object"),
        ({"counts0": None}, "counts0"),
        ({"counts0": COUNTS - 1}, "'model.0' has negative counts"),
        ({"counts0": COUNTS.astype(np.float64)}, r"counts float64\(4,\) and edges float32\(5,\)"),
        ({"counts0": COUNTS[:, None]}, r"counts int64\(4, 1\)"),
        ({"counts0": COUNTS[:0], "edges0": EDGES[:1]}, r"counts int64\(0,\)"),
        ({"edges0": EDGES[:-1]}, r"edges float32\(4,\)"),
        ({"edges0": EDGES.astype("U4")}, "edges <U4"),
        ({"edges0": EDGES[::-1].copy()}, "edges that do not rise from 0"),
        ({"edges0": EDGES * np.float32(np.nan)}, "edges that do not rise from 0"),
    ],
)
def test_what_no_calibrator_writes_is_refused(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    assert Statistics.load(written(tmp_path / "sound.npz")).images == 5
    path = written(tmp_path / "s.npz", **change)
    with pytest.raises(CalibrationError, match=rf"s\.npz' cannot be read \(.*{text}.*remove it and collect again"):
        Statistics.load(path)


def test_whatever_bytes_are_damaged_nothing_but_a_told_error_comes_out(tmp_path: Path) -> None:
    whole = written(tmp_path / "s.npz").read_bytes()
    rng, told = random.Random(15), 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 3, 30])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path = tmp_path / "damaged.npz"
        path.write_bytes(content)
        try:
            Statistics.load(path)
        except CalibrationError:
            told += 1
    assert told > 200


def test_a_file_of_an_earlier_version_has_no_tensors(statistics: Statistics, tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    statistics.save(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if not name.startswith("tensor")}
    header = json.loads(str(arrays["header"]))
    del header["tensors"]
    np.savez_compressed(path, **(arrays | {"header": np.array(json.dumps(header))}))
    found = Statistics.load(path)
    assert_equal(found.histograms, statistics.histograms)
    assert found.tensors == {}


def test_merged_statistics_hold_the_tensors_that_both_hold() -> None:
    one = Histogram(np.array([1, 2]), np.array([0, 1, 2], np.float32), low=-0.5, high=1.5)
    two = Histogram(np.array([0, 3]), np.array([0, 1, 2], np.float32), low=0.0, high=1.75)
    ours = Statistics({"a": one, "b": one}, 1, 0.0, tensors={"a": {"x": one}, "b": {"y": one}})
    theirs = Statistics({"a": two, "b": two}, 1, 0.0, tensors={"a": {"x": two}})
    merged = ours.merge(theirs)
    assert list(merged.tensors) == ["a"]
    found = merged.tensors["a"]["x"]
    assert (found.counts.tolist(), found.low, found.high) == ([1, 5], -0.5, 1.75)
