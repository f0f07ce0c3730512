r"""Spending a budget of images so that the most sensitive items are found.

In a first round every item runs on the same few images. Then, round by round, only the items go on of which it is undecided
whether they belong to the first k: those that surely do are accepted, those that surely do not are rejected (successive
accepts and rejects: Bubeck, Wang and Viswanathan, Multiple identifications in multi-armed bandits, ICML 2013). What is sure
comes from the intervals, and from a prior: a straight line through the measured effects over one of the proxies, around which
the true effects scatter (empirical Bayes: Efron and Morris, Limiting the risk of Bayes and empirical Bayes estimators, 1972).

The probability of belonging to the first k is found from effects on resampled images, the same resamples for all items, so that
what all items share, above all the noise of the base model, does not count as a difference between them. Resampling also shows
what no derivative does: on few images most classes have few objects, and which of them are there decides much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloqat.config.checks import check_int
from yoloqat.errors import ConfigError

ROUNDS = (0.4, 0.2, 0.2, 0.2)
"""Share of the budget that each round may spend."""

SURE = 0.98
"""Probability at which an item is accepted, and below one minus which it is rejected."""

TRANSLATION = 1.0
"""Standard errors by which the prior may move a measured effect at most: of the effect itself or of its distance to the other
items, whichever is smaller. True effects have long tails, and an item that stands out must stay where it was measured (the
limited translation of Efron and Morris, 1972)."""

_LEAST = 1e-12


@dataclass(frozen=True)
class Budget:
    """The forwards of one image that may be spent.

    Attributes:
        share: Of the cost of one full forward per item and image.
        items: Number of items.
        images: Number of images.

    Raises:
        ConfigError: The share is no number above 0 and at most 1.
    """

    share: float
    items: int
    images: int

    def __post_init__(self) -> None:
        """Check the values."""
        if not isinstance(self.share, int | float) or not 0.0 < self.share <= 1.0:
            raise ConfigError(
                f"scan_cost is {self.share!r}", expected="a number above 0 and at most 1", hint="write e.g. 0.1"
            )
        check_int("items", self.items, 1)
        check_int("images", self.images, 1)

    @property
    def forwards(self) -> float:
        """The budget in forwards of one image."""
        return self.share * self.items * self.images


@dataclass(frozen=True, eq=False)
class Evidence:
    """Measurements of the items so far; every array has one entry per item.

    Attributes:
        names: The items.
        effects: Measured effects.
        errors: Their standard errors over images.
        noise: By how much each effect differs on resampled images, shape (items, resamples), float64; the same resamples of
            images for all items.
        proxies: Numbers that rise with sensitivity, shape (items, proxies), float64; the one that fits best is used.
    """

    names: tuple[str, ...]
    effects: NDArray[np.float64]
    errors: NDArray[np.float64]
    noise: NDArray[np.float64]
    proxies: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Posterior:
    """Estimates from the evidence and the prior; every array has one entry per item.

    Attributes:
        names: The items.
        means: Estimated effects.
        chances: Probability of belonging to the first k.
        first: The k.
    """

    names: tuple[str, ...]
    means: NDArray[np.float64]
    chances: NDArray[np.float64]
    first: int

    def order(self) -> list[int]:
        """Return the items' positions: the k that most probably are the first k, then the others, each by falling estimate.

        No other choice has more of the first k in expectation. By estimates alone an item of which little is known would lose
        its place to one that is known to have a small effect.
        """

        def by_estimate(index: int) -> tuple[float, str]:
            return -float(self.means[index]), self.names[index]

        likely = sorted(range(len(self.names)), key=lambda index: (-float(self.chances[index]), *by_estimate(index)))
        return sorted(likely[: self.first], key=by_estimate) + sorted(likely[self.first :], key=by_estimate)

    def undecided(self) -> list[str]:
        """Return the items of which it is not sure whether they belong to the first k, the least sure first."""
        open_ones = [index for index, chance in enumerate(self.chances) if 1 - SURE < chance < SURE]
        return [self.names[index] for index in sorted(open_ones, key=lambda index: abs(self.chances[index] - 0.5))]


def estimate(evidence: Evidence, *, first: int) -> Posterior:
    """Combine measured effects with what the proxies predict of them.

    Args:
        evidence: What is known.
        first: Number of items that are looked for.
    """
    # the noise that all items share moves them together: it neither ranks them nor tells how far they scatter
    variance = np.maximum((evidence.noise - evidence.noise.mean(axis=0)).var(axis=1), _LEAST)
    fits = [_prior(evidence.effects, variance, proxy) for proxy in evidence.proxies.T]
    predicted, spread = min(fits, key=lambda fit: _misfit(evidence.effects - fit[0], variance + fit[1]))
    trust = spread / (spread + variance)
    drawn_in = trust * evidence.effects + (1 - trust) * predicted
    limit = TRANSLATION * np.minimum(np.sqrt(variance), evidence.errors)
    means = np.clip(drawn_in, evidence.effects - limit, evidence.effects + limit)
    drawn = means[:, None] + evidence.noise
    places = np.argsort(np.argsort(-drawn, axis=0, kind="stable"), axis=0)
    return Posterior(evidence.names, means, (places < first).mean(axis=1), first)


def _misfit(left: NDArray[np.float64], variance: NDArray[np.float64]) -> float:
    """Return minus twice the logarithm of the likelihood of normal residuals, but for a constant."""
    return float((np.log(variance) + np.square(left) / variance).sum())


def _prior(
    effects: NDArray[np.float64], variance: NDArray[np.float64], proxy: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Return what a weighted straight line predicts of each effect, and the variance of the true effects around it."""
    spread = max(float(np.var(effects)), _LEAST)
    predicted = np.zeros_like(effects)
    for _ in range(20):
        weights = 1 / (variance + spread)
        total = weights.sum()
        x, y = proxy - (weights * proxy).sum() / total, effects - (weights * effects).sum() / total
        slope = (weights * x * y).sum() / max(float((weights * x * x).sum()), _LEAST)
        slope = max(float(slope), 0.0)  # a proxy that falls with the effect is none
        predicted = (weights * effects).sum() / total + slope * x
        # without weights: a few large effects among many small and precise ones must widen it
        spread = max(float((np.square(effects - predicted) - variance).mean()), 0.01 * float(variance.mean()), _LEAST)
    return predicted, spread


@dataclass(frozen=True)
class Round:
    """The items and batches of one round.

    Attributes:
        items: The items.
        batches: The batches of images.
        cost: In forwards of one image.
    """

    items: tuple[str, ...]
    batches: tuple[int, ...]
    cost: float


def first_round(budget: Budget, costs: Mapping[str, float], sizes: Sequence[int], order: Sequence[int]) -> Round:
    """Return the round in which every item runs: on one batch at least, also where the budget does not suffice for it.

    Args:
        budget: What may be spent.
        costs: Share of a forward that each item costs, the base's opposite among them.
        sizes: Images of each batch.
        order: Batches in the order they are taken.
    """
    found = _taken(tuple(costs), ROUNDS[0] * budget.forwards, costs, sizes, order)
    if not found.batches:
        found = _taken(tuple(costs), budget.forwards, costs, sizes, order[:1])
    if not found.batches:  # the least that works, whatever it costs
        return _taken(tuple(costs), math.inf, costs, sizes, order[:1])
    return found


def later_round(
    number: int,
    budget: Budget,
    *,
    spent: float,
    posterior: Posterior,
    costs: Mapping[str, float],
    sizes: Sequence[int],
    order: Sequence[int],
) -> Round | None:
    """Return what a later round runs, or None where all is decided, spent or seen.

    Args:
        number: From 1.
        budget: What may be spent.
        spent: What was, in forwards of one image.
        posterior: What is known.
        costs: Share of a forward that each item costs.
        sizes: Images of each batch.
        order: Batches that were not used yet, in the order they are taken.
    """
    allowance = (budget.forwards - spent) * ROUNDS[number] / sum(ROUNDS[number:])
    names = posterior.undecided()
    while names and order:
        found = _taken(tuple(names), allowance, costs, sizes, order)
        if found.batches:
            return found
        names.pop()  # the one that is the surest of those that are not
    return None


def _taken(
    names: tuple[str, ...], allowance: float, costs: Mapping[str, float], sizes: Sequence[int], order: Sequence[int]
) -> Round:
    each = 1 + math.fsum(costs[name] for name in names)
    batches, cost = [], 0.0
    for batch in order:
        if cost + sizes[batch] * each > allowance:
            break
        batches.append(batch)
        cost += sizes[batch] * each
    return Round(names, tuple(batches), cost)
