"""The table of all rules, as the documentation shows it, and that of findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yoloqat.linting.registry import RULES
from yoloqat.linting.rule import Rule
from yoloqat.results import Table, counted


def rules_table(rules: Sequence[Rule] = RULES) -> str:
    """Return the rules as a Markdown table; each id is an anchor that SARIF files point to."""
    rows = ["| rule | severity | what | why | hint |", "|---|---|---|---|---|"]
    for rule in rules:
        name = f'<a id="{rule.id}"></a>`{rule.id}`'
        why = f"{rule.reason} ([{rule.source.title}]({rule.source.url}))"
        rows.append(f"| {name} | {rule.severity} | {rule.title} | {why} | {rule.hint} |")
    return "\n".join(rows) + "\n"


def findings_table(title: str, results: dict[str, Any]) -> Table:
    """Return the findings of ``lint`` with the fix of each.

    Args:
        title: The file.
        results: Of ``lint``.
    """
    counts = ", ".join(counted(results[f"{name}s"], name) for name in ("error", "warning", "note"))
    rows = tuple(
        (
            f"{finding['severity']} {finding['rule']}",
            str(len(finding["nodes"])) if finding["nodes"] else "-",
            f"{finding['message']}; {finding['hint']}",
        )
        for finding in results["findings"]
    )
    columns = ("finding", "nodes", "what, and the fix")
    return Table(f"{title}: {counts}", columns, rows or (("none", "-", "nothing found"),), left=(2,))
