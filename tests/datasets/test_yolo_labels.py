from __future__ import annotations

import contextlib
import math
import os
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.datasets.conftest import write_image
from yoloqat.datasets.records import ImageRecord
from yoloqat.datasets.yolo_labels import label_box, label_path, label_rows, read_labels
from yoloqat.errors import DataError


def test_the_last_images_directory_becomes_labels():
    assert label_path(Path("/images/set/images/val/a.b.jpg")) == Path("/images/set/labels/val/a.b.txt")
    assert label_path(Path("/set/val/images.jpg")) == Path("/set/val/images.txt")


def test_a_polygon_counts_with_its_box():
    assert label_box((0.5, 0.5, 0.25, 0.125)) == (0.5, 0.5, 0.25, 0.125)
    assert label_box((0.25, 0.5, 0.75, 0.5, 0.75, 1)) == (0.5, 0.75, 0.5, 0.5)
    # a corner may lie further outside than the box that counts, as for Ultralytics
    assert label_box((-0.05, 0.25, 0.45, 0.25, 0.45, 0.75)) == pytest.approx((0.2, 0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.2", "4 fields"),
        ("0 0.5 0.5 0.2 0.2 0.1", "6 fields"),
        ("0 0.5 0.5 0.2 0.2 0.1 0.1 0.1", "8 fields"),
        ("0 50 50 20 20", "coordinates outside 0 to 1"),
        ("0 0.5 nan 0.2 0.2", "coordinates outside 0 to 1"),
        ("0 0.5 0.5 0.2 -0.005", "a negative side"),
        ("0 0.5 0.5 0.2 inf", "coordinates outside 0 to 1"),
        ("0 0.1 0.1 0.2 0.2 nan 0.3", "coordinates outside 0 to 1"),
        ("0 -0.1 0.1 1.1 0.2 0.5 0.3", "coordinates outside 0 to 1"),
        ("x 0.5 0.5 0.2 0.2", "could not convert string to float: 'x'"),
        ("0,0.5,0.5,0.2,0.2", "could not convert string to float: '0,0.5"),
        ("0.5 0.5 0.5 0.2 0.2", "class 0.5 is no whole number"),
        ("inf 0.5 0.5 0.2 0.2", "class inf is no whole number"),
        ("nan 0.5 0.5 0.2 0.2", "class nan is no whole number"),
        ("1e300 0.5 0.5 0.2 0.2", "class 1000000"),
        ("0", "1 fields"),
        ("7 0.5 0.5 0.2 0.2", "class 7 of 2"),
        ("-1 0.5 0.5 0.2 0.2", "class -1 of 2"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, reason):
    path = tmp_path / "a.txt"
    path.write_text(f"0 0.5 0.5 0.2 0.2\n{line}\n")
    with pytest.raises(DataError, match=re.escape(f"label file '{path}' has the line '{line}' ({reason}")):
        read_labels([ImageRecord(tmp_path / "a.png", 1, 10, 20)], {0: "cat", 1: "dog"})


@pytest.mark.parametrize(
    ("lines", "objects"),
    [
        (["6 0.259375 0.5 0.25 0.25", "6 0.25937500 .5 2.5e-1 +0.25"], 1),
        (["6.0 0.5 0.5 0.25 0.25", "6 0.5 0.5 0.25 0.25"], 1),
        (["6\t0.5\t0.5 0.25 0.25", "6 0.5 0.5 0.25 0.25 "], 1),
        (["6 0.12345679 0.5 0.25 0.25", "6 0.1234567891 0.5 0.25 0.25"], 1),  # equal in single precision
        (["6 0 0.5 0.25 0.25", "6 -0.0 0.5 0.25 0.25"], 1),
        (["6 0.5 0.5 0.25 0.25", "6 0.5 0.5 0.25 0.2501"], 2),
        (["6 0.5 0.5 0.25 0.25", "5 0.5 0.5 0.25 0.25"], 2),
        (["6 .1 .1 .5 .1 .5 .5", "6 0.10 0.10 0.50 0.10 0.50 0.50"], 1),
        (["6 .1 .1 .5 .1 .5 .5", "6 .1 .1 .1 .5 .5 .5"], 2),  # other polygons in one box
    ],
)
def test_lines_equal_as_numbers_are_one_object(tmp_path, lines, objects):
    (tmp_path / "a.txt").write_text("\n".join(lines))
    rows = label_rows(tmp_path / "a.txt", 7)
    assert len(rows) == objects
    assert rows[0] == (6, tuple(map(float, lines[0].split()[1:])))


def as_ultralytics(folder, lines):
    image = write_image(folder / "images" / "a.png", 64, 48)
    label = folder / "labels" / "a.txt"
    label.parent.mkdir(exist_ok=True)
    label.write_text("\n".join(lines))
    verify = pytest.importorskip("ultralytics.data.utils").verify_image_label
    _, boxes, *_ = verify((str(image), str(label), "", False, 7, 0, 0, False))
    return None if boxes is None else sorted(tuple(row) for row in boxes.tolist()), label


NUMBER = st.sampled_from(
    ["0.5", "0.50", ".25", "0.259375", "0.25937500", "1", "1.01", "1.02", "0", "-0.005", "-0.02", "nan"]
)
CLASS = st.sampled_from(["6", "6.0", "0", "7", "-1", "1.5", "x"])


@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            CLASS, st.sampled_from([3, 4, 5, 6, 7, 8]).flatmap(lambda n: st.lists(NUMBER, min_size=n, max_size=n))
        ),
        max_size=3,
    )
)
def test_what_ultralytics_reads_is_read_alike_and_what_it_drops_is_refused(tmp_path, rows):
    lines = [" ".join([index, *numbers]) for index, numbers in rows]
    expected, label = as_ultralytics(tmp_path, lines)
    try:
        found = [(float(index), *label_box(numbers)) for index, numbers in label_rows(label, 7)]
    except DataError:
        found = None
    if expected is None and len({len(numbers) == 4 for _, numbers in rows}) == 2:
        return  # boxes and polygons in one file are read here and dropped there
    assert (found is None) == (expected is None)
    if found is not None:
        np.testing.assert_allclose(sorted(found), expected or np.empty((0, 5)).tolist(), atol=1e-6)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=60) | st.text(alphabet="0123456789.+-eE naif_\t\n\r\x1c", max_size=60).map(str.encode))
def test_no_bytes_end_in_another_error(content):
    with tempfile.NamedTemporaryFile(suffix=".txt") as file, contextlib.suppress(DataError):
        file.write(content)
        file.flush()
        for index, numbers in label_rows(Path(file.name), 3, (1, 3)):
            assert 0 <= index < 3
            assert all(map(math.isfinite, (*numbers, *label_box(numbers, (1, 3)))))


@pytest.mark.parametrize(
    "make",
    [
        lambda path: os.mkfifo(path),
        os.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("gone"),
    ],
)
def test_labels_that_are_no_regular_file_are_not_taken_for_none(tmp_path, make):
    make(tmp_path / "a.txt")
    with pytest.raises(DataError, match=re.escape(f"label file '{tmp_path / 'a.txt'}' is no regular file")):
        read_labels([ImageRecord(tmp_path / "a.png", 1, 10, 20)], {0: "cat"})


def test_a_file_larger_than_any_label_file_is_never_read(tmp_path):
    path = tmp_path / "a.txt"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(DataError, match=re.escape(f"label file '{path}' is larger than any")):
        label_rows(path, 1)


@pytest.mark.parametrize(
    ("points", "objects"),
    [("0.5 0.5 2", 1), ("0 0 0", 1), ("0.5 1.5 2", None), ("0.5 -0.5 0", None), ("0.5 0.5 nan", None)],
)
def test_keypoints_lie_on_the_image_too(tmp_path, points, objects):
    path = tmp_path / "a.txt"
    path.write_text(f"0 0.5 0.5 0.2 0.4 {points}")
    if objects is None:
        with pytest.raises(DataError, match=re.escape(f"'0 0.5 0.5 0.2 0.4 {points}' (coordinates outside 0 to 1)")):
            label_rows(path, 1, (1, 3))
    else:
        assert len(label_rows(path, 1, (1, 3))) == objects


def test_labels_become_pixels_and_repeated_lines_one_object(tmp_path):
    (tmp_path / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n1 0.5 0.5 0.2 0.4\n")
    images = [ImageRecord(tmp_path / "a.png", 4, 10, 20), ImageRecord(tmp_path / "b.png", 6, 10, 20)]
    labels = read_labels(images, {0: "cat", 1: "dog"})
    (annotation,) = labels["annotations"]
    assert annotation["bbox"] == pytest.approx([4.0, 6.0, 2.0, 8.0])
    assert annotation["area"] == pytest.approx(16.0)
    assert (annotation["id"], annotation["image_id"], annotation["category_id"]) == (1, 4, 1)
    assert [entry["id"] for entry in labels["images"]] == [4, 6]


def test_images_without_any_label_are_told(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"none of 1 images has a label, e.g. not '{tmp_path / 'a.txt'}'")):
        read_labels([ImageRecord(tmp_path / "a.png", 1, 10, 20)], {0: "cat"})
