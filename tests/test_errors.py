"""Errors tell the value, what was expected, and the hint, in one line."""

from __future__ import annotations

import pickle

import pytest

from yoloqat import errors
from yoloqat.errors import CheckFailedError, YoloqatError, YoloqatWarning, warn

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, YoloqatError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_keeps_and_tells_its_parts(kind):
    error = kind("bits is 99", expected="2 to 16", hint="choose fewer")
    assert (error.what, error.expected, error.hint) == ("bits is 99", "2 to 16", "choose fewer")
    assert str(error) == "bits is 99; expected 2 to 16; choose fewer"
    assert error.exit_code == (1 if kind is CheckFailedError else 2)
    assert isinstance(error, YoloqatError)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_is_pickled_whole(kind):
    error = pickle.loads(pickle.dumps(kind("bits is 99", expected="2 to 16", hint="choose fewer")))
    assert type(error) is kind
    assert (error.what, error.expected, error.hint) == ("bits is 99", "2 to 16", "choose fewer")
    assert str(error) == "bits is 99; expected 2 to 16; choose fewer"


def test_there_are_kinds():
    assert len(KINDS) >= 10


@pytest.mark.parametrize("value", ["a\nb", "a\r\n\tb", "a  b", "\n a b\n"])
def test_whatever_is_interpolated_the_text_is_one_line(value):
    assert str(YoloqatError(f"{value} is wrong", expected="x", hint="y")) == "a b is wrong; expected x; y"


def test_what_does_not_show_is_escaped_and_a_long_word_cut():
    assert str(YoloqatError("'a\0b\ud800\x1b[2J'", expected="x", hint="y")).startswith(
        "'a\\x00b\\ud800\\x1b[2J'; expected"
    )
    assert str(YoloqatError("é" * 501, expected="x", hint="y")) == "é" * 500 + "... expected x; y"


def test_a_warning_is_one_line_that_names_its_caller():
    with pytest.warns(YoloqatWarning, match=r"^a b$") as caught:
        (lambda: warn("a\nb"))()
    assert caught[0].filename == __file__


def test_the_hint_cannot_be_left_out():
    with pytest.raises(TypeError, match="hint"):
        YoloqatError("what", expected="that")
