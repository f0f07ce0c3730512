from __future__ import annotations

import re
import threading

import numpy as np
import pytest

from yoloqat.datasets import ImageRecord, letterbox, plan_batches, read_batches
from yoloqat.datasets.images import decode
from yoloqat.errors import ConfigError, DataError


@pytest.fixture
def records(tmp_path, image_at):
    sizes = [(20, 10), (10, 20), (16, 16), (30, 12), (12, 30)]
    return [ImageRecord(image_at(tmp_path / f"{n}.png", width=w, height=h), n, w, h) for n, (w, h) in enumerate(sizes)]


def test_batches_hold_letterboxed_images_in_order(records):
    batches = list(read_batches(plan_batches(records, 32, 2)))
    assert [[record.image_id for record in batch.records] for batch in batches] == [[0, 1], [2, 3], [4]]
    for batch in batches:
        assert batch.images.dtype == np.float32
        assert batch.images.shape == (len(batch.records), 3, 32, 32)
        for image, record, geometry in zip(batch.images, batch.records, batch.geometries, strict=True):
            pixels, expected = letterbox(decode(record.path), 32)
            np.testing.assert_array_equal(image, pixels.astype(np.float32) / np.float32(255))
            assert geometry == expected


def test_rectangular_batches_are_sorted_by_shape_and_fit(records):
    plans = plan_batches(records, 64, 2, rect=True, stride=32)
    assert [[record.image_id for record in plan.records] for plan in plans] == [[3, 0], [2, 1], [4]]
    # ceil(side * 64 / 32 + 0.5) * 32 with the sides of the widest, of mixed, and of tall images
    assert [plan.shape for plan in plans] == [(64, 96), (96, 96), (96, 64)]
    assert [batch.images.shape[2:] for batch in read_batches(plans)] == [(64, 96), (96, 96), (96, 64)]


def test_a_broken_image_is_named_and_the_threads_end(records):
    records[3].path.write_bytes(b"broken")
    before = threading.active_count()
    with pytest.raises(DataError, match=re.escape(f"image '{records[3].path}' does not decode")):
        list(read_batches(plan_batches(records, 32, 1)))
    assert threading.active_count() == before


def test_closing_early_ends_the_threads(records):
    before = threading.active_count()
    batches = read_batches(plan_batches(records, 32, 1))
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_an_image_of_another_size_than_annotated_is_named(records):
    wrong = [ImageRecord(records[0].path, 0, 40, 20)]
    with pytest.raises(DataError, match=r"0.png' is 20 x 10 pixels; expected 40 x 20"):
        list(read_batches(plan_batches(wrong, 32, 1)))


def test_settings_are_checked(records):
    with pytest.raises(ConfigError, match="batch is 0"):
        plan_batches(records, 32, 0)
    with pytest.raises(ConfigError, match="imgsz is 0"):
        plan_batches(records, 0, 1)
