"""Seeded damage to nested documents: what a fuzzer writes in place of an entry, and where."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

from yoloqat.errors import YoloqatError

ATOMS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 640, 10**9, 1 << 40, -(1 << 63), 0.5, -0.0, 1e308, float("inf"), float("nan")),
    *("", "0", "1", "abc", "detect", "classify", "nn.SiLU()", "a\0b", "\ud800", "x" * 5000, "../../x", "1e5", "True"),
)


def odd_value(rng: random.Random, depth: int = 2) -> Any:
    """Return a number, text, list or dict that is probably wrong wherever it stands."""
    kind = rng.random()
    if depth == 0 or kind < 0.7:
        return rng.choice(ATOMS)
    count = rng.randrange(4)
    if kind < 0.85:
        return [odd_value(rng, depth - 1) for _ in range(count)]
    return {rng.choice(("0", "1", "a", "", "name")): odd_value(rng, depth - 1) for _ in range(count)}


def damaged(document: Any, rng: random.Random, *, spare: tuple[str, ...] = ()) -> Any:
    """Return a copy of a document in which one entry, of any depth, is gone or another; ``spare`` names keys left alone."""
    result = copy.deepcopy(document)
    part = result
    while True:
        keys: list[Any] = (
            list(range(len(part))) if isinstance(part, list) else [key for key in part if key not in spare]
        )
        if not keys:
            return result
        key = rng.choice(keys)
        inner = part[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.7:
            part = inner
        elif rng.random() < 0.25:
            del part[key]
            return result
        else:
            part[key] = odd_value(rng)
            return result


def made(make: Callable[[], Any]) -> Any:
    """Return what ``make`` gives, or None where it refuses in one line; anything else that it raises passes."""
    try:
        return make()
    except YoloqatError as error:
        refusal = str(error)
    assert refusal
    assert "\n" not in refusal
    assert len(refusal) < 1500
    return None
