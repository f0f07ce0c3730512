"""Bias correction: the right shift by hand, never a larger error, layers that are left alone, the same numbers again."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from yoloqat.errors import CalibrationError
from yoloqat.quant import calibrate_module, quantize_module, state_digest
from yoloqat.refining import correct_biases
from yoloqat.refining.bias import best_shift

ACTIVATIONS = [None, nn.functional.silu, nn.functional.hardswish, nn.functional.leaky_relu, torch.sigmoid]


class Twice(nn.Module):
    """Four layers: one with SiLU, one without an activation, one without a bias, and one that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.plain = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.bare, self.again = nn.Conv2d(8, 8, 1, bias=False), nn.Conv2d(8, 8, 1)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.plain(self.act(self.first(x)))
        return self.again(self.act(self.again(self.act(self.bare(x)))))


@pytest.fixture
def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(2, 3, 12, 12, generator=generator) for _ in range(3)]


@pytest.fixture
def module(batches: list[Tensor]) -> nn.Module:
    torch.manual_seed(0)
    return calibrate_module(quantize_module(Twice().eval(), batches[0]), batches)


def values(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_planted_shift_is_found(activation: object) -> None:
    floating = values(4, 3, 200)
    planted = torch.tensor([0.3, -0.2, 0.0])
    found = best_shift([(part, part + planted[:, None]) for part in floating.split(2)], activation)
    torch.testing.assert_close(found, -planted, atol=2e-3, rtol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("noise", [0.1, 3.0])
def test_the_error_after_the_activation_rises_in_no_channel(activation: object, noise: float) -> None:
    floating = values(4, 16, 50) * 4
    quantized = floating.clamp(-1, 2) + noise * torch.rand(floating.shape, generator=torch.Generator().manual_seed(2))
    act = activation or (lambda value: value)
    shift = best_shift([(floating, quantized)], activation)
    before = (act(quantized) - act(floating)).square().sum((0, 2))
    after = (act(quantized + shift[:, None]) - act(floating)).square().sum((0, 2))
    assert (after <= before).all()
    assert after.sum() < 0.99 * before.sum()


def test_a_clipped_outlier_does_not_move_what_silu_makes_flat() -> None:
    """The mean before the activation differs by 1 through values that SiLU sends to 0; nothing needs correction."""
    floating = torch.cat([values(1, 1, 300), torch.full((1, 1, 100), -24.0)], dim=2)
    quantized = floating.clamp(min=-20.0)
    assert best_shift([(floating, quantized)], nn.functional.silu).abs().item() < 1e-5
    assert best_shift([(floating, quantized)], None).item() == pytest.approx(-1.0)


def test_a_channel_of_nothing_gets_no_shift() -> None:
    floating = torch.zeros(1, 2, 5)
    floating[0, 1] = torch.nan
    assert best_shift([(floating, floating)], nn.functional.relu).tolist() == [0.0, 0.0]


def test_what_coarse_weights_lose_comes_back(batches: list[Tensor]) -> None:
    """Weights of 0.4 steps round to 0, which takes a constant part of the output away."""
    layer = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        layer.weight.fill_(0.4 / 127)
        layer.weight[:, 0, 0, 0] = 1.0
    module = calibrate_module(quantize_module(nn.Sequential(layer, nn.SiLU()).eval(), batches[0]), batches, "max")
    before, after = correct_biases(module, batches).errors["0"]
    assert after < 0.1 * before
    assert (module[0].bias - layer.bias).min() > 0.02


def test_only_layers_that_can_be_corrected_are(module: nn.Module, batches: list[Tensor]) -> None:
    kept = {name: value.clone() for name, value in module.named_parameters()}
    done = correct_biases(module, batches, skip={"plain": "the user says so"})
    assert list(done.errors) == ["first"]
    assert done.skipped == {"plain": "the user says so", "bare": "has no bias", "again": "runs 2 times in a forward"}
    changed = {name for name, value in module.named_parameters() if not torch.equal(value, kept[name])}
    assert changed == {"first.bias"}
    torch.testing.assert_close(module.first.bias, kept["first.bias"] + done.shifts["first"])
    assert done.errors["first"][1] <= done.errors["first"][0]


def test_later_layers_see_the_corrected_ones(module: nn.Module, batches: list[Tensor]) -> None:
    """Once more on the corrected copy, with the first layer left alone, the second finds the shift that it found."""
    again = copy.deepcopy(module)
    done = correct_biases(module, batches)
    with torch.no_grad():
        outputs = [again.first._input_quantizer(batch) for batch in batches]
        floating = [again.act(nn.Conv2d.forward(again.first, batch)) for batch in batches]
        floating = [nn.functional.conv2d(batch, again.first.weight, again.first.bias, padding=1) for batch in batches]
        moved = again.first.bias + done.shifts["first"]
        given = [nn.functional.conv2d(x, again.first.quantized_weight(), moved, padding=1) for x in outputs]
        plain = again.plain
        wanted = [plain._conv_forward(again.act(x), plain.weight, plain.bias).flatten(2) for x in floating]
        given = [plain(again.act(x)).flatten(2) for x in given]
    expected = best_shift(list(zip(wanted, given, strict=True)), None)
    torch.testing.assert_close(done.shifts["plain"], expected, atol=1e-5, rtol=1e-3)


def test_the_same_again_to_the_last_bit_and_after_an_interruption(module: nn.Module, batches: list[Tensor]) -> None:
    class StoppedError(Exception):
        pass

    first, second, third = module, copy.deepcopy(module), copy.deepcopy(module)
    steps: list[tuple[str, int, int]] = []
    done = correct_biases(first, batches, progress=lambda *step: steps.append(step))
    assert steps == [("bias", 1, 2), ("bias", 2, 2)]
    kept: dict[str, Tensor] = {}

    def stop(shifts: dict[str, Tensor]) -> None:
        kept.update(shifts)
        raise StoppedError

    with pytest.raises(StoppedError):
        correct_biases(second, batches, keep=stop)
    assert list(kept) == ["first"]
    resumed = correct_biases(third, batches, found=kept)
    assert state_digest(third) == state_digest(first)
    assert (resumed.errors, resumed.skipped) == (done.errors, done.skipped)


def test_the_float_model_may_have_other_parameters(batches: list[Tensor]) -> None:
    layer = nn.Conv2d(3, 4, 3)
    floating = {"0.weight": layer.weight.detach().clone(), "0.bias": layer.bias.detach().clone()}
    module = calibrate_module(quantize_module(nn.Sequential(layer, nn.SiLU()).eval(), batches[0]), batches, "max")
    with torch.no_grad():
        module[0].bias += 0.25
    correct_biases(module, batches, floating=floating)
    torch.testing.assert_close(module[0].bias.detach(), floating["0.bias"], atol=0.01, rtol=0)


def test_a_linear_layer_and_a_transposed_convolution_are_corrected() -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 3, 8, 8) + 0.5
    layers = nn.Sequential(
        nn.ConvTranspose2d(3, 4, 2, stride=2), nn.ReLU(), nn.Flatten(2), nn.Linear(256, 5), nn.SiLU()
    )
    module = calibrate_module(quantize_module(layers.eval(), images), [images])
    done = correct_biases(module, [images])
    assert {name: len(shift) for name, shift in done.shifts.items()} == {"0": 4, "3": 5}
    assert all(after < before for before, after in done.errors.values())


def test_no_images_are_refused(module: nn.Module) -> None:
    with pytest.raises(CalibrationError, match="there are 0 batches of images to correct biases on"):
        correct_biases(module, [])
