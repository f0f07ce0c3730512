"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from yoloqat.linting.finding import Hit, Severity
from yoloqat.linting.graph import Graph


@dataclass(frozen=True)
class Source:
    """Where a rule's reason can be read.

    Attributes:
        title: The document and the place in it.
        url: Its address.
    """

    title: str
    url: str


@dataclass(frozen=True)
class Rule:
    """One rule of the lint.

    Attributes:
        id: Short name, also the anchor in the documentation.
        severity: How bad what it finds is.
        title: What it looks for, in a few words.
        reason: Why that is bad, in one or two sentences.
        source: Where the reason can be read.
        hint: What to do about it, as an imperative.
        check: Finds it; a pure function of the prepared graph.
    """

    id: str
    severity: Severity
    title: str
    reason: str
    source: Source
    hint: str
    check: Callable[[Graph], Iterable[Hit]]
