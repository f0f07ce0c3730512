"""Tables as data, and what a stage found."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from yoloqat.cli.terminal import shown
from yoloqat.results import Result, Table, counted, interval, number, signed

NAMES = ("model.2.cv1.conv", "model.22.cv3.2.0.conv")
TABLE = Table(
    "layers",
    ("layer", "effect", "95 % interval", "why"),
    (
        (NAMES[0], "+0.0123", "[-0.0010, +0.0200]", "a long reason that has to be broken somewhere"),
        (NAMES[1], "-", "-", ""),
    ),
    "caption <b>",
    left=(3,),
)


@pytest.mark.parametrize(("number", "text"), [(0, "0 warnings"), (1, "1 warning"), (2, "2 warnings")])
def test_one_thing_is_no_plural(number: int, text: str) -> None:
    assert counted(number, "warning") == text


def drawn(table: Table, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(shown(table, width))
    return console.file.getvalue().splitlines()


def test_text_has_columns_below_each_other() -> None:
    lines = str(TABLE).splitlines()
    assert (lines[0], lines[-1]) == ("layers", "caption <b>")
    assert (
        lines[2] == "model.2.cv1.conv       +0.0123  [-0.0010, +0.0200]  a long reason that has to be broken somewhere"
    )
    assert lines[3] == "model.22.cv3.2.0.conv        -                   -"


def test_html_is_escaped() -> None:
    assert "caption &lt;b&gt;" in TABLE.to_html()
    assert TABLE.to_html().count("<tr>") == 3


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_neither_a_name_nor_a_number_is_broken(width: int) -> None:
    lines = drawn(TABLE, width)
    text = "\n".join(lines)
    for whole in (*NAMES, "+0.0123", "[-0.0010, +0.0200]"):
        assert whole in text, width
    if width >= 80:
        assert max(map(len, lines)) <= width


def test_a_narrow_terminal_gets_names_on_lines_of_their_own() -> None:
    narrow = Table("t", ("name", "a", "b"), (("n" * 30, "1.00", "2"), ("m", "3.25", "40")))
    assert drawn(narrow, 32) == ["t", "name", "     a   b", "n" * 30, "  1.00   2", "m", "  3.25  40"]


def test_columns_of_dashes_alone_can_be_left_out() -> None:
    table = Table("t", ("name", "a", "b", "why"), (("-", "-", "1", "x"), ("-", "-", "-", "y")), left=(1, 3))
    assert table.without_empty_columns() == Table(
        "t", ("name", "b", "why"), (("-", "1", "x"), ("-", "-", "y")), left=(2,)
    )
    assert TABLE.without_empty_columns() == TABLE


def test_a_result_is_frozen_and_shows_itself() -> None:
    found = Result({"map": 0.5}, (TABLE,))
    assert (found["map"], found.to_dict()) == (0.5, {"map": 0.5})
    found.to_dict()["map"] = 1.0
    assert found["map"] == 0.5
    assert repr(found) == str(TABLE)
    assert found._repr_html_() == TABLE.to_html()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.results = {}
    assert repr(Result({"a": 1}, ())) == "Result({'a': 1})"


def test_numbers_that_are_not_there_are_dashes() -> None:
    assert (number(None), signed(None), interval(None)) == ("-", "-", "-")
    assert (number(0.12345), signed(0.1), interval([-0.1, 0.2])) == ("0.1235", "+0.1000", "[-0.1000, +0.2000]")
