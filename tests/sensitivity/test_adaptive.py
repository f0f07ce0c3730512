from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloqat.errors import ConfigError
from yoloqat.sensitivity.adaptive import ROUNDS, SURE, Budget, Evidence, Posterior, estimate, first_round, later_round

SIZES = [4, 4, 4, 4, 2]
COSTS = {"a": 0.5, "b": 0.25, "c": 1.0}


def evidence(effects, noise, *, resamples=4000, shared=0.0, proxy=None, seed=0):
    """Effects whose noise has the given standard errors, with a part common to all items."""
    rng = np.random.default_rng(seed)
    effects = np.asarray(effects, dtype=float)
    drawn = np.asarray(noise, dtype=float)[:, None] * rng.standard_normal((len(effects), resamples))
    drawn += shared * rng.standard_normal(resamples)
    proxy = np.zeros(len(effects)) if proxy is None else np.asarray(proxy, dtype=float)
    proxies = np.stack([rng.random(len(effects)), proxy], axis=1)  # the first tells nothing
    errors = np.hypot(np.asarray(noise, dtype=float), shared)
    return Evidence(tuple(f"item {i}" for i in range(len(effects))), effects, errors, drawn, proxies)


def test_clear_effects_are_sure_and_close_ones_are_not():
    found = estimate(evidence([0.5, 0.4, 0.101, 0.1, 0.0, -0.1], [0.01] * 6), first=3)
    assert found.order()[:2] == [0, 1]
    assert min(found.chances[:2]) > SURE
    assert max(found.chances[4:]) < 1 - SURE
    assert set(found.undecided()) == {"item 2", "item 3"}
    assert found.chances.sum() == pytest.approx(3.0)


def test_noise_that_all_items_share_does_not_unsettle_their_order():
    steady = estimate(evidence([0.3, 0.2, 0.1, 0.0], [0.01] * 4, shared=1.0), first=2)
    assert min(steady.chances[:2]) > SURE
    unsettled = estimate(evidence([0.3, 0.2, 0.1, 0.0], [1.0] * 4), first=2)
    assert len(unsettled.undecided()) == 4


def test_a_proxy_that_tells_draws_noisy_effects_to_what_it_predicts():
    rng = np.random.default_rng(1)
    true = np.linspace(0, 1, 40)
    effects = true + 0.5 * rng.standard_normal(40)
    told = estimate(evidence(effects, [0.5] * 40, proxy=true), first=10)
    blind = estimate(evidence(effects, [0.5] * 40), first=10)
    assert np.abs(told.means - true).mean() < 0.7 * np.abs(blind.means - true).mean()
    assert len(set(told.order()[:10]) & set(range(30, 40))) >= 7


def test_an_effect_that_stands_out_stays_where_it_was_measured():
    """Many precise small effects, and one that is large and less precise: the many must not pull it in."""
    effects, noise = [0.001] * 60 + [0.2], [0.001] * 60 + [0.03]
    found = estimate(evidence(effects, noise, proxy=np.linspace(0.01, 0.02, 61)), first=1)
    assert abs(found.means[-1] - 0.2) <= 0.03
    assert found.chances[-1] > SURE


def test_a_proxy_that_misleads_is_not_believed_against_precise_effects():
    true = np.linspace(0, 1, 20)
    found = estimate(evidence(true, [0.01] * 20, proxy=-true), first=5)
    assert np.abs(found.means - true).max() < 0.02
    assert set(found.order()[:5]) == set(range(15, 20))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_estimates_lie_between_measurement_and_prediction_and_errors_shrink(seed, count):
    rng = np.random.default_rng(seed)
    given_ = evidence(rng.standard_normal(count), rng.uniform(0.1, 1, count), proxy=rng.random(count), seed=seed)
    found = estimate(given_, first=1)
    again = estimate(given_, first=1)
    assert np.array_equal(found.means, again.means)
    assert np.array_equal(found.chances, again.chances)
    assert np.isfinite(found.means).all()
    assert found.chances.sum() == pytest.approx(1.0)
    assert sorted(found.order()) == list(range(count))
    assert found.chances[found.order()[0]] == found.chances.max()
    own = (given_.noise - given_.noise.mean(axis=0)).std(axis=1)
    assert (np.abs(found.means - given_.effects) <= np.minimum(own, given_.errors) + 1e-12).all()


def test_the_prior_does_not_move_an_effect_further_than_its_own_error():
    """An item that changed nothing on the images it saw, among others that share much noise: its error alone is the limit."""
    given_ = evidence([0.3, 0.2, 0.1, 0.0], [0.01, 0.01, 0.01, 0.0], shared=0.1)
    silent = replace(given_, errors=np.array([0.1, 0.1, 0.1, 0.002]), noise=given_.noise * [[1], [1], [1], [0]])
    assert abs(estimate(silent, first=1).means[-1]) <= 0.002


def test_the_likeliest_come_first_though_their_estimates_be_small():
    """Of 'b' next to nothing is known; 'a' is known to have a small effect, and 'd' a large one."""
    found = Posterior(tuple("abcd"), np.array([0.02, 0.01, 0.0, 0.5]), np.array([0.1, 0.45, 0.45, 1.0]), first=3)
    assert [found.names[index] for index in found.order()] == ["d", "b", "c", "a"]


def test_the_first_round_takes_what_its_share_of_the_budget_pays():
    budget = Budget(0.9, 3, 18)  # 48.6 forwards, 19.4 of them in the first round
    found = first_round(budget, COSTS, SIZES, [3, 0, 1, 2, 4])
    assert found.items == ("a", "b", "c")
    assert found.batches == (3,)  # 4 images at 1 + 1.75 each: 11; two batches would be 22
    assert found.cost == pytest.approx(11.0)
    assert found.cost <= ROUNDS[0] * budget.forwards


def test_a_budget_too_small_for_its_share_may_go_into_one_chunk_whole():
    found = first_round(Budget(0.25, 3, 18), COSTS, SIZES, [0, 1])
    assert (found.batches, found.cost) == ((0,), 11.0)


def test_a_budget_too_small_for_one_chunk_takes_one():
    budget = Budget(0.1, 3, 18)
    found = first_round(budget, COSTS, SIZES, [0, 1])
    assert (found.batches, found.items) == ((0,), tuple(COSTS))
    assert found.cost == 11.0 > budget.forwards


@pytest.mark.parametrize("share", [0, -0.1, 1.5, "0.1"])
def test_a_budget_is_a_share(share):
    with pytest.raises(ConfigError, match=f"scan_cost is {share!r}; expected a number above 0 and at most 1"):
        Budget(share, 1, 1)


def posterior(chances):
    zeros = np.zeros(len(chances))
    return Posterior(tuple("abc"[: len(chances)]), zeros, np.array(chances), first=1)


def test_a_later_round_runs_the_undecided_items_on_new_images():
    budget = Budget(1.0, 3, 18)
    found = later_round(
        1, budget, spent=11.0, posterior=posterior([0.5, 0.999, 0.3]), costs=COSTS, sizes=SIZES, order=[1, 2]
    )
    assert found.items == ("a", "c")
    assert found.batches == (1,)
    assert found.cost == pytest.approx(4 * 2.5)


def test_where_not_all_undecided_items_can_be_paid_the_surest_of_them_waits():
    found = later_round(
        3, Budget(1.0, 3, 18), spent=54 - 6.9, posterior=posterior([0.5, 0.9, 0.1]), costs=COSTS, sizes=SIZES, order=[1]
    )
    assert found.items == ("a",)


@pytest.mark.parametrize(("chances", "order", "spent"), [([1.0, 0.0], [1], 0), ([0.5], [], 0), ([0.5], [1], 18)])
def test_it_ends_where_all_is_decided_seen_or_spent(chances, order, spent):
    found = later_round(
        1, Budget(1.0, 1, 18), spent=spent, posterior=posterior(chances), costs=COSTS, sizes=SIZES, order=order
    )
    assert found is None
