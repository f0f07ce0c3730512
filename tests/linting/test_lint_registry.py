from __future__ import annotations

import re
from pathlib import Path

import pytest

from yoloqat.linting import RULES, Severity, rules_table

DOCS = Path(__file__).resolve().parents[2] / "docs" / "lint.md"


def test_the_documentation_has_the_table_of_the_rules_as_they_are() -> None:
    assert rules_table() in DOCS.read_text(encoding="utf-8"), "put what rules_table() returns into docs/lint.md"


def test_the_table_has_a_row_and_an_anchor_for_each_rule() -> None:
    table = rules_table()
    assert re.findall(r'<a id="([^"]+)">', table) == [rule.id for rule in RULES]
    lines = table.splitlines()
    assert len(lines) == 2 + len(RULES)
    assert {line.count("|") for line in lines} == {6}


def test_ids_are_unique_and_rules_stand_by_severity() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    order = [list(Severity).index(rule.severity) for rule in RULES]
    assert order == sorted(order)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_each_rule_says_what_why_whence_and_what_to_do(rule) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.id)
    assert rule.title
    assert rule.reason.endswith(".")
    assert rule.hint
    assert not rule.hint.endswith(".")
    assert rule.source.title
    assert rule.source.url.startswith("https://")


def test_each_rule_is_tested_by_name() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_lint_*.py"))
    untested = [rule.id for rule in RULES if f'found("{rule.id}"' not in tests]
    assert untested == []
