"""Names of layers chosen by exact names, globs and regular expressions."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Collection, Sequence

from yoloqat.errors import PatternError

_REGEX = "re:"


def _matcher(pattern: str, option: str) -> Callable[[str], bool]:
    """Return the predicate of one pattern."""
    if pattern.startswith(_REGEX):
        try:
            expression = re.compile(pattern.removeprefix(_REGEX))
        except (re.error, OverflowError) as error:  # a{99999999999} overflows
            raise PatternError(
                f"{option} pattern {pattern!r} is no regular expression ({error})",
                expected="a valid regular expression after 're:'",
                hint="correct it",
            ) from error
        return lambda name: expression.fullmatch(name) is not None
    return lambda name: fnmatch.fnmatchcase(name, pattern)


def with_ancestors(name: str) -> list[str]:
    """Return the names of the blocks that hold a layer, the outermost first, and its own."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def nearest_names(name: str, candidates: Collection[str], *, what: str = "layers") -> str:
    """Return a hint that names the candidates most like ``name``, or one of them, which are ``what``, where none is."""
    near = difflib.get_close_matches(name, sorted(candidates), n=3, cutoff=0.5)
    if near:
        return f"did you mean {', '.join(near)}?"
    return f"{what} are named like {sorted(candidates)[-1]}" if candidates else "the model has no layer to quantize"


def match_layers(patterns: Sequence[str], names: Collection[str], *, option: str = "ignore") -> set[str]:
    r"""Return the names that a pattern matches, directly or through a block that holds them.

    Args:
        patterns: Exact names (``model.22.cv2.0.2``), globs (``model.2?.*``), regular expressions that match the
            whole name (``re:model\.(4|6)\..*``), or names of blocks (``model.22``) for all layers inside.
        names: Qualified names of all layers there are to choose from.
        option: Name of the option, for messages.

    Returns:
        The subset of ``names`` that at least one pattern matches.

    Raises:
        PatternError: A pattern matches nothing (near names are listed) or is no regular expression.
    """
    found: set[str] = set()
    for pattern in patterns:
        matches = _matcher(pattern, option)
        hits = {name for name in names if any(matches(part) for part in with_ancestors(name))}
        if not hits:
            candidates = sorted({part for name in names for part in with_ancestors(name)})
            raise PatternError(
                f"{option} pattern {pattern!r} matches no layer",
                expected="the name of a layer or block, a glob, or re:PATTERN",
                hint=nearest_names(pattern.removeprefix(_REGEX), candidates),
            )
        found |= hits
    return found
