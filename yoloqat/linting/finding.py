"""What the lint finds, as values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_SHOWN = 3


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """The engine refuses the file, or computes something else than the file says."""
    WARNING = "warning"
    """The engine runs it, but slower or less accurate than it could."""
    NOTE = "note"
    """Nothing is wrong with the file as it is; a later step may trip over it."""


@dataclass(frozen=True)
class Hit:
    """One thing that a rule's check found.

    Attributes:
        nodes: Names of the nodes it is about, in graph order; empty where it is about the whole file.
        message: What is wrong, with the values, as one sentence without a full stop.
    """

    nodes: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Finding:
    """One finding of the lint.

    Attributes:
        rule: Id of the rule, see :data:`yoloqat.linting.RULES`.
        severity: How bad it is.
        nodes: Names of the nodes it is about, in graph order; empty where it is about the whole file. A node without a name
            goes by its operator and its first output, e.g. ``"Conv->x"``.
        message: What is wrong, with the values.
        hint: What to do about it.
    """

    rule: str
    severity: Severity
    nodes: tuple[str, ...]
    message: str
    hint: str

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON-able values: ``rule, severity, nodes, message, hint, mend``."""
        return {
            "rule": self.rule,
            "severity": str(self.severity),
            "nodes": list(self.nodes),
            "message": self.message,
            "hint": self.hint,
            "mend": self.hint,  # deprecated: its name in results of 0.1.0, which scripts read
        }


def gathered(what: str, places: Iterable[tuple[str, str]]) -> list[Hit]:
    """Join all places of one trouble into one hit, which shows the first few with their values.

    Args:
        what: The trouble, e.g. ``"scales are not positive"``.
        places: Node name and what it has, in graph order; a name may come more than once.

    Returns:
        One hit, or none where there is no place.
    """
    listed = list(places)
    if not listed:
        return []
    shown = [f"'{name}' {detail}".rstrip() for name, detail in listed[:_SHOWN]]
    rest = len(listed) - len(shown)
    text = ", ".join(shown) + (f" and {rest} more" if rest else "")
    return [Hit(tuple(dict.fromkeys(name for name, _ in listed)), f"{what}: {text}")]
