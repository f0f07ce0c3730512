"""The table of all rules, as the documentation shows it."""

from __future__ import annotations

from collections.abc import Sequence

from yoloqat.linting.registry import RULES
from yoloqat.linting.rule import Rule


def rules_table(rules: Sequence[Rule] = RULES) -> str:
    """Return the rules as a Markdown table; each id is an anchor that SARIF files point to."""
    rows = ["| rule | severity | what | why | hint |", "|---|---|---|---|---|"]
    for rule in rules:
        name = f'<a id="{rule.id}"></a>`{rule.id}`'
        why = f"{rule.reason} ([{rule.source.title}]({rule.source.url}))"
        rows.append(f"| {name} | {rule.severity} | {rule.title} | {why} | {rule.hint} |")
    return "\n".join(rows) + "\n"
