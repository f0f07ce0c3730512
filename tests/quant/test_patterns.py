"""Names, globs and regular expressions that choose layers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloqat.errors import PatternError
from yoloqat.quant import match_layers

NAMES = ["model.0.conv", "model.2.cv1.conv", "model.2.m.0.cv1.conv", "model.22.cv2.0.2", "model.22.dfl.conv", "head"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("model.0.conv", ["model.0.conv"]),
        ("head", ["head"]),
        ("model.2", ["model.2.cv1.conv", "model.2.m.0.cv1.conv"]),
        ("model.22", ["model.22.cv2.0.2", "model.22.dfl.conv"]),
        ("model", NAMES[:5]),
        ("*", NAMES),
        ("model.2?.*", ["model.22.cv2.0.2", "model.22.dfl.conv"]),
        ("*.cv1.*", ["model.2.cv1.conv", "model.2.m.0.cv1.conv"]),
        ("model.[02].*", NAMES[:3]),
        ("*.m.0", ["model.2.m.0.cv1.conv"]),
        (r"re:model\.(0|22)\..*", ["model.0.conv", "model.22.cv2.0.2", "model.22.dfl.conv"]),
        (r"re:model\.2", ["model.2.cv1.conv", "model.2.m.0.cv1.conv"]),
        (r"re:.*\.dfl", ["model.22.dfl.conv"]),
    ],
)
def test_a_pattern_matches(pattern, expected):
    assert sorted(match_layers([pattern], NAMES)) == sorted(expected)


def test_patterns_add_up_and_none_matches_none():
    assert match_layers(["head", "model.0"], NAMES) == {"head", "model.0.conv"}
    assert match_layers([], NAMES) == set()


@given(st.sets(st.sampled_from(NAMES)))
def test_exact_names_match_themselves(names):
    assert match_layers(sorted(names), NAMES) == names


@pytest.mark.parametrize(
    "pattern", ["Model.0.conv", "model.0.con", "re:odel", "model.0.conv.weight", "model.3", "mode"]
)
def test_a_pattern_without_a_match_is_an_error(pattern):
    with pytest.raises(PatternError, match=f"ignore pattern '{pattern}' matches no layer"):
        match_layers(["head", pattern], NAMES)


def test_near_names_are_listed():
    with pytest.raises(PatternError, match=r"did you mean .*model\.22\.dfl\.conv") as caught:
        match_layers(["model.22.dlf.conv"], NAMES)
    assert "head" not in caught.value.hint
    with pytest.raises(PatternError, match=r"did you mean .*model\.22\.dfl"):
        match_layers(["model.21.dfl"], NAMES)


def test_without_near_names_an_example_is_given():
    with pytest.raises(PatternError, match=r"layers are named like model\.22\.dfl\.conv"):
        match_layers(["zzzzzzzz"], NAMES)


def test_a_model_without_layers_says_so():
    with pytest.raises(PatternError, match=r"'x' matches no layer.*the model has no layer to quantize"):
        match_layers(["x"], [])


@pytest.mark.parametrize("pattern", ["re:model.(", "re:*", "re:a{99999999999999999999}"])
def test_a_malformed_regular_expression_is_named(pattern):
    with pytest.raises(PatternError) as caught:
        match_layers([pattern], NAMES)
    assert f"ignore pattern {pattern!r} is no regular expression" in str(caught.value)
