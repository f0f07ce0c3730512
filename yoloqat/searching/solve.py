"""Float sets that nothing beats, found exactly by an integer program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from yoloqat.config.checks import check_int
from yoloqat.searching.problem import FloatSet, Problem

Row = NDArray[np.float64]

_TIE = 1e-6
"""Weight of the other figure, each relative to the whole, where two sets have the same of the first."""


class _Program:
    """The integer program of a problem: one unknown in {0, 1} for each choice, one in [0, 1] for each border between two.

    That of a border is at least the difference of its ends, either way round, and costs latency, so that a solver makes it
    the difference itself. A border to what is always float costs a fixed latency less the more of it is float: no unknown.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        count = len(problem.choices)
        inner = [border for border in problem.borders if None not in (border.first, border.second)]
        inner = [border for border in inner if border.first != border.second and border.ms > 0.0]
        self.integer = np.array([1] * count + [0] * len(inner))
        self.share = np.array([choice.share for choice in problem.choices] + [0.0] * len(inner))
        self.ms = np.array([choice.float_ms for choice in problem.choices] + [border.ms for border in inner])
        for border in problem.borders:
            ends = [end for end in (border.first, border.second) if end is not None]
            if len(ends) == 1:
                self.ms[ends[0]] -= border.ms
        rows, columns, values = list[int](), list[int](), list[float]()
        for number, border in enumerate(inner):
            for row, sign in ((2 * number, 1.0), (2 * number + 1, -1.0)):
                rows += [row] * 3
                columns += [int(border.first or 0), int(border.second or 0), count + number]
                values += [sign, -sign, -1.0]
        shape = (2 * len(inner), len(self.integer))
        self.borders = [LinearConstraint(csr_array((values, (rows, columns)), shape=shape), ub=0.0)] if inner else []

    def solve(self, cost: Row, limited: Row, limit: float) -> FloatSet | None:
        """Return the set of least cost where ``limited`` adds up to at most ``limit``; None where none does."""
        count = len(self.problem.choices)
        if not count:
            return self.problem.float_set(()) if limit >= 0.0 else None
        constraints: list[Any] = [*self.borders, LinearConstraint(limited[None, :], ub=limit)]
        found = milp(
            cost,
            integrality=self.integer,
            bounds=Bounds(0.0, 1.0),
            constraints=constraints,
            options={"mip_rel_gap": 0.0},
        )
        if found.x is None:
            return None
        return self.problem.float_set([int(index) for index in np.flatnonzero(found.x[:count] > 0.5)])

    @property
    def scale(self) -> float:
        """Milliseconds of everything, so that costs and ties compare."""
        return float(np.abs(self.ms).sum()) or 1.0


def least_noise(problem: Problem, max_ms: float) -> FloatSet | None:
    """Return the float set of least predicted noise within a latency, exactly; of several the fastest.

    Args:
        problem: Noises and latencies.
        max_ms: The latency to stay within, in milliseconds.

    Returns:
        The set, empty where nothing pays; None where no set is fast enough.
    """
    program = _Program(problem)
    return program.solve(_TIE * program.ms / program.scale - program.share, program.ms, max_ms - problem.latency_ms)


def least_latency(problem: Problem, max_d: float) -> FloatSet | None:
    """Return the float set of least predicted latency within a noise, exactly; of several the one of least noise.

    Args:
        problem: Noises and latencies.
        max_d: The noise to stay within.

    Returns:
        The set, empty where INT8 alone is within the noise and nothing is faster; None where no set is within it.
    """
    program = _Program(problem)
    limit = (max_d / problem.d) ** 2 - 1.0 if problem.d > 0.0 else 0.0
    return (
        program.solve(program.ms / program.scale - _TIE * program.share, -program.share, limit) if max_d >= 0 else None
    )


def frontier(problem: Problem, *, points: int = 25) -> tuple[FloatSet, ...]:
    """Return float sets that nothing beats, by rising latency: the fastest of all, the one of least noise, and those between.

    Args:
        problem: Noises and latencies.
        points: Latencies, evenly spread between the two ends, within each of which the set of least noise is sought.

    Raises:
        ConfigError: ``points`` is below 2.
    """
    check_int("points", points, 2)
    fastest, quietest = least_latency(problem, problem.d), least_noise(problem, float(np.inf))
    if fastest is None or quietest is None:  # the empty set is one, so that neither can be
        return (problem.float_set(()),)
    limits = np.linspace(fastest.latency_ms, quietest.latency_ms, points)[1:-1]
    found = [least_noise(problem, float(limit)) for limit in limits]
    return undominated([fastest, *(point for point in found if point is not None), quietest])


def undominated(sets: Sequence[FloatSet]) -> tuple[FloatSet, ...]:
    """Return the sets that no other beats in both figures, by rising latency, each once."""
    kept: list[FloatSet] = []
    for point in sorted(sets, key=lambda point: (point.latency_ms, point.d)):
        if not kept or point.d < kept[-1].d:
            kept.append(point)
    return tuple(kept)
