"""Hashes of files and values."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloqat.errors import DataError
from yoloqat.provenance import digest, file_sha256

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def reordered(value):
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(PLAIN)
def test_the_order_of_keys_does_not_matter(value):
    assert digest(value) == digest(reordered(value))
    assert len(digest(value)) == 16


@pytest.mark.parametrize(
    ("first", "second"),
    [({"a": 1}, {"a": 2}), ([1, 2], [2, 1]), ({"a": 1}, {"b": 1}), (1, "1"), ("", None), (0.1, 0.2)],
)
def test_different_values_have_different_digests(first, second):
    assert digest(first) != digest(second)


def test_nan_has_no_digest():
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"x": float("nan")})


@pytest.mark.parametrize("content", [b"", b"abc", bytes(1 << 17)])
def test_a_file_is_hashed_by_its_bytes(tmp_path, content):
    (tmp_path / "f").write_bytes(content)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(content).hexdigest()


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read '.*absent' \(No such file"):
        file_sha256(tmp_path / "absent")
    with pytest.raises(DataError, match=r"cannot read '.*' \(Is a directory\)"):
        file_sha256(tmp_path)
