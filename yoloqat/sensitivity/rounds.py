"""An adaptive scan: rounds that are decided from what the rounds before found, and written down before they run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from yoloqat.sensitivity.adaptive import ROUNDS, Budget, Evidence, Posterior, Round, estimate, first_round, later_round
from yoloqat.sensitivity.effects import with_least_error
from yoloqat.sensitivity.items import BASE, OTHER
from yoloqat.sensitivity.ranking import chosen_results, measured
from yoloqat.sensitivity.scanner import Scanner
from yoloqat.sensitivity.study import Study
from yoloqat.sensitivity.workers import Workers

RESAMPLES = 400
"""Resamples of the images from which a round is decided."""

_FAINTEST = 1e-12


@dataclass(frozen=True, eq=False)
class Rounds:
    """The rounds of an adaptive scan and their outcome.

    Attributes:
        rounds: The rounds in order.
        posterior: What is known in the end.
        budget: What might have been spent.
        first: Number of the most sensitive items that were looked for.
    """

    rounds: tuple[Round, ...]
    posterior: Posterior
    budget: Budget
    first: int

    @property
    def spent(self) -> float:
        """The forwards of one image that were spent."""
        return math.fsum(one.cost for one in self.rounds)


def batches_of(rounds: Sequence[Round]) -> dict[str, set[int]]:
    """Return the batches that each model ran on in some rounds."""
    found: dict[str, set[int]] = {}
    for one in rounds:
        for name in (BASE, *one.items):
            found.setdefault(name, set()).update(one.batches)
    return found


def run_rounds(
    study: Study,
    scanner: Scanner,
    workers: Workers,
    *,
    share: float,
    first: int,
    seed: int,
    costs: Mapping[str, float],
    priors: Sequence[Mapping[str, float]],
) -> Rounds:
    """Scan adaptively.

    A round that was decided before an interruption is resumed; decisions rest on nothing but the rounds before.

    Args:
        study: Keeps pieces and decisions.
        scanner: The items.
        workers: Do the pieces.
        share: Of the cost of one full forward per item and image that may be spent.
        first: Number of the most sensitive items that are looked for.
        seed: Seeds the order of the images, and the draws.
        costs: Share of a forward that each item costs.
        priors: Squares of what rises with an item's effect, by item, such as the error of its tensors.

    Raises:
        ConfigError: The budget is no share.
    """
    sizes = [len(batch.records) for batch in scanner.batches]
    budget = Budget(share, len(scanner.items), sum(sizes))
    order = np.random.default_rng(seed).permutation(len(sizes)).tolist()
    own = {item.name: costs[item.name] for item in scanner.items}

    def read(kept: dict[str, Any]) -> Round:
        one = Round(tuple(kept["items"]), tuple(kept["chunks"]), float(kept["cost"]))
        if (
            not one.items
            or not set(one.items) <= {*own, OTHER}
            or not set(one.batches) <= set(order)
            or not one.batches
        ):
            raise ValueError(f"a round of {len(one.items)} items on {len(one.batches)} batches")
        return one

    done: list[Round] = []
    posterior: Posterior | None = None

    def decide(number: int) -> dict[str, Any] | None:
        if posterior is None:
            return _note(first_round(budget, own | {OTHER: 1.0}, sizes, order))
        spent = math.fsum(one.cost for one in done)
        used = {batch for one in done for batch in one.batches}
        left = [batch for batch in order if batch not in used]
        one = later_round(number, budget, spent=spent, posterior=posterior, costs=own, sizes=sizes, order=left)
        return None if one is None else _note(one)

    for number in range(len(ROUNDS)):
        one = study.once(f"round {number} of {share!r} for {first} by {seed}", partial(decide, number), read)
        if one is None:
            break
        done.append(one)
        study.want([BASE, *one.items], one.batches)
        workers()
        posterior = estimate(evidence(study, scanner, done, priors, seed=seed), first=first)
    assert posterior is not None  # noqa: S101 - the first round ran
    return Rounds(tuple(done), posterior, budget, first)


def _note(one: Round) -> dict[str, Any]:
    """Return a round as the study keeps it, under the keys that it has had from the first version on."""
    return {"items": one.items, "chunks": one.batches, "cost": one.cost}


def evidence(
    study: Study, scanner: Scanner, rounds: Sequence[Round], priors: Sequence[Mapping[str, float]], *, seed: int
) -> Evidence:
    """Return what some rounds found.

    Images are drawn by the Poisson bootstrap (Chamandy et al., Estimating uncertainty for massive data streams, 2012), whose
    weights are one number per image, so that items on different images have common resamples.
    """
    batches = batches_of(rounds)
    known = measured(study, scanner)
    names = tuple(item.name for item in scanner.items)
    weights = np.random.default_rng(seed).poisson(1.0, size=(len(scanner.truth.image_ids), RESAMPLES))
    found, head_errors = [], np.zeros(len(names))
    noise = np.zeros((len(names), RESAMPLES))
    for index, name in enumerate(names):
        results = chosen_results(study, name, batches.get(name, set()))
        found.append(known.effect(results))
        drawn = known.resampled(results, weights) - found[index].effect
        noise[index] = np.where(np.isfinite(drawn), drawn, 0.0)
        # the first round's images alone: every item ran on them
        common = [results[batch].head_error for batch in rounds[0].batches]
        head_errors[index] = math.fsum(common) / len(common)
    # losses rise with the size of errors rather than with their squares
    known_before = [[prior[name] for name in names] for prior in priors]
    proxies = np.sqrt(np.maximum(np.stack([head_errors, *known_before], axis=1), _FAINTEST))
    measured_effects = with_least_error(found)
    effects, errors = (np.array([getattr(x, part) for x in measured_effects]) for part in ("effect", "error"))
    return Evidence(names, effects, errors, noise, proxies)
