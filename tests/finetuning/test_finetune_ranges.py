from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from yoloqat.errors import CalibrationError
from yoloqat.finetuning.ranges import RangeGuard, check_calibrated
from yoloqat.quant import TensorQuantizer
from yoloqat.quant.learned_ranges import LearnedRanges, active_quantizers


def located(*ranges: float | list[float] | None) -> nn.Sequential:
    found = [TensorQuantizer() for _ in ranges]
    for quantizer, amax in zip(found, ranges, strict=True):
        quantizer.amax = None if amax is None else torch.tensor(amax)
    return nn.Sequential(*found)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_broken_range_is_named(value: float) -> None:
    module = located(1.0, [[2.0], [3.0]])
    guard = RangeGuard(module)
    guard.check()
    module[1].amax[1] = value
    with pytest.raises(CalibrationError, match=f"amax of '1' became {value}"):
        guard.check()


def test_a_range_of_zeros_may_stay_but_not_turn_negative() -> None:
    module = located([[0.0], [3.0]])
    guard = RangeGuard(module)
    guard.check()
    module[0].amax[0] = 1.0
    guard.check()
    module[0].amax[0] = -1.0
    with pytest.raises(CalibrationError, match=r"amax of '0' became -1\.0"):
        guard.check()


def test_quantizers_that_are_off_are_left_alone() -> None:
    module = located(1.0, None)
    module[1].disable()
    assert [name for name, _ in active_quantizers(module)] == ["0"]
    check_calibrated(module)
    RangeGuard(module).check()


def test_a_model_without_ranges_is_refused() -> None:
    with pytest.raises(CalibrationError, match="quantizer '1' has no amax"):
        check_calibrated(located(1.0, None))


def test_nothing_to_watch_is_fine() -> None:
    RangeGuard(nn.Identity()).check()


def test_a_range_learns_by_its_logarithm() -> None:
    module = located(0.5)
    learned = LearnedRanges(module)
    x = torch.linspace(-4, 4, 100).reshape(10, 10)
    (module(x) - x).square().sum().backward()
    gradient = module[0].amax.grad.clone()
    assert gradient < 0  # a larger range would clip less
    learned.pull_gradients()
    assert torch.equal(learned.parameters[0].grad, gradient * 0.5)
    assert module[0].amax.grad is None
    torch.optim.SGD(learned.parameters, lr=0.1).step()
    learned.push_values()
    assert module[0].amax > 0.5
    assert torch.allclose(module[0].amax, learned.parameters[0].exp())


def test_huge_steps_leave_a_range_positive() -> None:
    module = located(0.5)
    learned = LearnedRanges(module)
    learned.parameters[0].data -= 20.0
    learned.push_values()
    assert 0 < float(module[0].amax.detach()) < 1e-8


def test_shared_and_dead_ranges() -> None:
    module = located(0.5, 0.0)
    module.add_module("again", module[0])
    learned = LearnedRanges(module)
    assert len(learned) == 1  # once, though two modules hold it; a range of 0 has no logarithm
    learned.release()
    assert not module[0].amax.requires_grad


def test_state_is_exact() -> None:
    first, second = LearnedRanges(located(0.3, 0.7)), LearnedRanges(located(1.0, 1.0))
    second.load({name: value.detach().clone() for name, value in first.state().items()})
    assert all(torch.equal(a, b) for a, b in zip(first.parameters, second.parameters, strict=True))


def test_a_copied_model_learns_nothing_of_the_original() -> None:
    module = located(0.5)
    learned = LearnedRanges(module)
    averaged = copy.deepcopy(module)
    learned.parameters[0].data += 1.0
    learned.push_values()
    assert float(averaged[0].amax.detach()) == 0.5
