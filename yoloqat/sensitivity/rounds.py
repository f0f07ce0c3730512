"""An adaptive scan: rounds that are decided from what the rounds before found, and written down before they run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from yoloqat.sensitivity.adaptive import ROUNDS, Belief, Budget, Evidence, Round, believe, first_round, later_round
from yoloqat.sensitivity.effects import with_least_error
from yoloqat.sensitivity.models import BASE, OTHER
from yoloqat.sensitivity.outcome import chosen_findings, measured
from yoloqat.sensitivity.scanner import Scanner
from yoloqat.sensitivity.study import Study
from yoloqat.sensitivity.workers import Workers

RESAMPLES = 400
"""Resamples of the images from which a round is decided."""

_FAINTEST = 1e-12


@dataclass(frozen=True, eq=False)
class Rounds:
    """What an adaptive scan did.

    Attributes:
        rounds: The rounds in order.
        belief: What is known in the end.
        budget: What might have been spent.
        first: Number of the most sensitive items that were looked for.
    """

    rounds: tuple[Round, ...]
    belief: Belief
    budget: Budget
    first: int

    @property
    def spent(self) -> float:
        """What was spent, in forwards of one image."""
        return math.fsum(one.cost for one in self.rounds)


def chunks_of(rounds: Sequence[Round]) -> dict[str, set[int]]:
    """Return the chunks that each model ran on in some rounds."""
    found: dict[str, set[int]] = {}
    for one in rounds:
        for name in (BASE, *one.items):
            found.setdefault(name, set()).update(one.chunks)
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
    nmse: Mapping[str, float],
) -> Rounds:
    """Scan adaptively.

    A round that was decided before an interruption is taken up again; decisions rest on nothing but the rounds before.

    Args:
        study: Keeps pieces and decisions.
        scanner: The items.
        workers: Do the pieces.
        share: Of the cost of one full forward per item and image that may be spent.
        first: Number of the most sensitive items that are looked for.
        seed: Seeds the order of the images, and the draws.
        costs: Share of a forward that each item costs.
        nmse: Normalised squared quantization error of each item's tensors.

    Raises:
        ConfigError: The budget is no share, or does not suffice for a single chunk.
    """
    sizes = [len(chunk.records) for chunk in scanner.chunks]
    budget = Budget(share, len(scanner.items), sum(sizes))
    order = np.random.default_rng(seed).permutation(len(sizes)).tolist()
    own = {item.name: costs[item.name] for item in scanner.items}

    def read(kept: dict[str, Any]) -> Round:
        one = Round(tuple(kept["items"]), tuple(kept["chunks"]), float(kept["cost"]))
        if not one.items or not set(one.items) <= {*own, OTHER} or not set(one.chunks) <= set(order) or not one.chunks:
            raise ValueError(f"a round of {len(one.items)} items on {len(one.chunks)} chunks")
        return one

    done: list[Round] = []
    belief: Belief | None = None
    for number in range(len(ROUNDS)):
        name = f"round {number} of {share!r} for {first} by {seed}"
        one = study.noted(name, read)
        if one is None:
            if belief is None:
                decided: Round | None = first_round(budget, own | {OTHER: 1.0}, sizes, order)
            else:
                spent = math.fsum(one.cost for one in done)
                used = {chunk for one in done for chunk in one.chunks}
                left = [chunk for chunk in order if chunk not in used]
                decided = later_round(number, budget, spent=spent, belief=belief, costs=own, sizes=sizes, order=left)
            study.note(name, None if decided is None else asdict(decided))
            one = study.noted(name, read)
        if one is None:
            break
        done.append(one)
        study.want([BASE, *one.items], one.chunks)
        workers.work()
        belief = believe(evidence(study, scanner, done, nmse, seed=seed), first=first)
    assert belief is not None  # noqa: S101 - the first round ran
    return Rounds(tuple(done), belief, budget, first)


def evidence(
    study: Study, scanner: Scanner, rounds: Sequence[Round], nmse: Mapping[str, float], *, seed: int
) -> Evidence:
    """Return what some rounds found.

    Images are drawn by the Poisson bootstrap (Chamandy et al., Estimating uncertainty for massive data streams, 2012), whose
    weights are one number per image, so that items on different images have common resamples.
    """
    chunks = chunks_of(rounds)
    known = measured(study, scanner)
    names = tuple(item.name for item in scanner.items)
    weights = np.random.default_rng(seed).poisson(1.0, size=(len(scanner.truth.image_ids), RESAMPLES))
    found, head_errors = [], np.zeros(len(names))
    noise = np.zeros((len(names), RESAMPLES))
    for index, name in enumerate(names):
        findings = chosen_findings(study, name, chunks.get(name, set()))
        found.append(known.effect(findings))
        drawn = known.resampled(findings, weights) - found[index].effect
        noise[index] = np.where(np.isfinite(drawn), drawn, 0.0)
        # the first round's images alone: every item ran on them
        common = [findings[chunk].head_error for chunk in rounds[0].chunks]
        head_errors[index] = math.fsum(common) / len(common)
    # losses rise with the size of errors rather than with their squares
    proxies = np.sqrt(np.maximum(np.stack([head_errors, [nmse[name] for name in names]], axis=1), _FAINTEST))
    measured_effects = with_least_error(found)
    effects, errors = (np.array([getattr(x, part) for x in measured_effects]) for part in ("effect", "error"))
    return Evidence(names, effects, errors, noise, proxies)
