from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloqat.errors import DataError
from yoloqat.evaluation.image_matches import ImageMatches, pack, unpack

COUNTS = st.lists(st.one_of(st.none(), st.integers(0, 30)), max_size=6)


@given(COUNTS, st.integers(0, 2**32 - 1))
def test_what_was_packed_is_unpacked(counts, seed):
    rng = np.random.default_rng(seed)
    images = [
        None
        if count is None
        else ImageMatches(
            rng.integers(0, 80, count).astype(np.int16),
            rng.random(count, dtype=np.float32),
            rng.integers(0, 1024, count).astype(np.uint16),
            rng.integers(0, 1024, count).astype(np.uint16),
        )
        for count in counts
    ]
    found = unpack(pack(images))
    assert [image is None for image in found] == [image is None for image in images]
    for own, other in zip(found, images, strict=True):
        if own is not None and other is not None:
            for name in ("columns", "scores", "correct", "ignored"):
                assert getattr(own, name).tolist() == getattr(other, name).tolist()


@pytest.mark.parametrize("blob", [b"", b"none", zlib.compress(b"\x05\x00\x00\x00\x01")])
def test_damaged_bytes_are_refused(blob):
    with pytest.raises(DataError, match=f"{len(blob)} bytes of matches cannot be read"):
        unpack(blob)
