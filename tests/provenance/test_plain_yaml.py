from __future__ import annotations

import re

import pytest

from yoloqat.provenance.plain_yaml import parse_yaml


def test_a_plain_document_with_aliases_and_merges_is_read():
    text = "a: &a {x: 1}\nb: *a\nc:\n  <<: *a\n  y: [no, 1.5, '2']\n"
    assert parse_yaml(text) == ({"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": [False, 1.5, "2"]}}, ())
    assert parse_yaml("# nothing") == (None, ())


def test_repeated_keys_are_returned_once_each():
    assert parse_yaml("{a: 1, b: {c: 1, c: 2, c: 3}, a: 2}") == ({"a": 2, "b": {"c": 3}}, ("a", "c"))


def bomb(depth, join):
    return "a0: &a0 {k: v, l: w}\n" + "".join(
        f"a{n}: &a{n} {join(', '.join([f'*a{n - 1}'] * 9))}\n" for n in range(1, depth)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb(12, "[{}]".format), "more than 16777216 characters once its aliases"),
        (bomb(12, "{{<<: [{}]}}".format), "more than 16777216 characters once its aliases"),
        ("a: &a [*a]", "it holds itself"),
        ("&a {b: {c: *a}}", "it holds itself"),
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: " + "1:" * 40000 + "1", "it has a value of 80001 characters"),
        ("a: " + "9" * 5000, "a value is unfit: Exceeds the limit"),
        ("a: 2026-13-45", "a value is unfit: month must be in 1..12"),
        ("a: !!timestamp x", "a value is unfit"),
        ("a: !!bool x", "a value is unfit: 'x'"),
        ("a: !!int ''", "a value is unfit"),
        ("a: " + "9:" * 400 + "9.5", "a value is unfit"),
        (
            "a: 1\nb: !!python/object/apply:os.system [touch x]",
            r"line 2: could not determine a constructor .*os.system",
        ),
        ("a: *b", "line 1: found undefined alias 'b'"),
        ("a: 1\n b: 2", "line 2: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", "line 2: but found another document"),
        ("a\0b", "unacceptable character #x0000"),
        ("? [a]\n: b", "line 1: found unhashable key"),
    ],
    ids=range(18),
)
def test_what_is_refused(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_yaml(text)
    assert len(re.split(r"[\r\n]", str(caught.value))) == 1
