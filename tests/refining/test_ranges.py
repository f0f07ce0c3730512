"""Learned ranges: an outlier that costs nothing is clipped, the same numbers again, and what stays as it is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.errors import CalibrationError
from yoloqat.quant import TensorQuantizer, activation_quantizers, calibrate_module, quantize_module, state_digest
from yoloqat.refining import learn_ranges


@pytest.fixture
def batches() -> list[Tensor]:
    """Values of about 1, and in the channel that no output reads some of 40."""
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 3, 8, 8, generator=generator) for _ in range(3)]
    for part in parts:
        part[:, 2, 0, 0] = 40.0
    return parts


@pytest.fixture
def pair(batches: list[Tensor]) -> tuple[nn.Module, nn.Module]:
    return calibrated(batches, symmetric=True)


def calibrated(batches: list[Tensor], *, symmetric: bool) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    floating = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU(), nn.Conv2d(4, 2, 1)).eval()
    with torch.no_grad():
        floating[0].weight[:, 2] = 0.0
    config = QuantConfig(activations=QuantScheme(symmetric=symmetric))
    return calibrate_module(quantize_module(floating, batches[0], config), batches, "max"), floating


def squared(floating: Tensor, other: Tensor) -> Tensor:
    return (other - floating).square().mean()


def first(module: nn.Module) -> TensorQuantizer:
    return module[0]._input_quantizer


def test_an_outlier_that_no_output_reads_is_clipped(pair: tuple[nn.Module, nn.Module], batches: list[Tensor]) -> None:
    module, floating = pair
    weights = {name: value.clone() for name, value in module.named_parameters()}
    module[2].weight.requires_grad_(False)
    done = learn_ranges(module, floating, batches, squared, steps=120)
    before, after = done.ranges["0._input_quantizer"]
    assert before == pytest.approx(40.0)
    assert after == float(first(module).amax)
    assert after < 25.0
    assert len(done.losses) == 120
    assert sum(done.losses[-3:]) < 0.5 * sum(done.losses[:3])
    assert all(torch.equal(value, weights[name]) for name, value in module.named_parameters())
    assert (module[0].weight.requires_grad, module[2].weight.requires_grad) == (True, False)
    assert not first(module).amax.requires_grad


def test_an_affine_range_moves_its_upper_end_alone(batches: list[Tensor]) -> None:
    module, floating = calibrated(batches, symmetric=False)
    low = float(first(module).low)
    done = learn_ranges(module, floating, batches, squared, steps=120)
    before, after = done.ranges["0._input_quantizer"]
    assert (before, after) == (pytest.approx(40.0), float(first(module).amax))
    assert after < 25.0
    assert (low < -1.0, float(first(module).low)) == (True, low)
    assert sum(done.losses[-3:]) < 0.5 * sum(done.losses[:3])


def test_the_same_again_to_the_last_bit_and_after_an_interruption(
    pair: tuple[nn.Module, nn.Module], batches: list[Tensor]
) -> None:
    class StoppedError(Exception):
        pass

    module, floating = pair
    second, third = copy.deepcopy(module), copy.deepcopy(module)
    told: list[tuple[str, int, int]] = []
    done = learn_ranges(module, floating, batches, squared, steps=20, progress=lambda *step: told.append(step))
    assert (told[0], told[-1]) == (("ranges", 1, 20), ("ranges", 20, 20))
    kept: dict[str, Tensor] = {}

    def stop(tensors: dict[str, Tensor]) -> None:
        kept.update(tensors)
        raise StoppedError

    with pytest.raises(StoppedError):
        learn_ranges(second, floating, batches, squared, steps=20, keep=stop)
    assert len(kept["losses"]) == 8
    resumed = learn_ranges(third, floating, batches, squared, steps=20, found=kept)
    assert state_digest(third) == state_digest(module)
    assert resumed == done


def test_ranges_that_cannot_be_learned_stay(pair: tuple[nn.Module, nn.Module], batches: list[Tensor]) -> None:
    module, floating = pair
    first(module).amax = 0.0
    off = module[2]._input_quantizer
    off.disable()
    done = learn_ranges(module, floating, batches, squared, steps=2)
    assert done.ranges == {}
    assert float(first(module).amax) == 0.0
    off.enable()
    assert set(learn_ranges(module, floating, batches, squared, steps=1).ranges) == {"2._input_quantizer"}


def test_what_a_run_in_inference_mode_left_behind_stops_no_gradient(
    pair: tuple[nn.Module, nn.Module], batches: list[Tensor]
) -> None:
    module, floating = pair

    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.anchors = module, None

        def forward(self, x: Tensor) -> tuple[Tensor, None]:
            if self.anchors is None:
                self.anchors = torch.ones(1)
            return self.model(x) * self.anchors, None

    remembers = Remembers()
    with torch.inference_mode():
        remembers(batches[0])
    assert len(learn_ranges(remembers, floating, batches, squared, steps=1).losses) == 1


def test_no_images_are_refused(pair: tuple[nn.Module, nn.Module]) -> None:
    with pytest.raises(CalibrationError, match="there are 0 batches of images to learn ranges on"):
        learn_ranges(*pair, [], squared)


def test_a_range_that_is_lost_is_named(pair: tuple[nn.Module, nn.Module], batches: list[Tensor]) -> None:
    module, floating = pair
    with pytest.raises(CalibrationError, match=r"amax of '0\._input_quantizer' became nan"):
        learn_ranges(module, floating, batches, lambda p, q: (q - p).sum() * torch.nan, steps=2)
    assert {name for name, quantizer in activation_quantizers(module) if quantizer.amax.requires_grad} == set()
