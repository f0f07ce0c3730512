"""Learned rounding: what it wins, that no block loses, what stays, whole integers, the same again after an interruption."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.errors import CalibrationError, ConfigError
from yoloqat.export import export_module
from yoloqat.onnx_graph.graph import initializers, producers
from yoloqat.quant import activation_quantizers, calibrate_module, quantize_module, quantized_layers, state_digest
from yoloqat.refining import RoundingConfig, learn_rounding

FAST = RoundingConfig(steps=45, batch=2, weight_rate=0.02, bias_rate=2e-3, range_rate=4e-3, keep_every=15)


class Skipping(nn.Module):
    """Two blocks and a third that reads what both give, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 4, 1))
        self.last = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(torch.cat((x, self.second(x)), 1))


@pytest.fixture
def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(4, 3, 12, 12, generator=generator) - 0.3 for _ in range(2)]


def low_bits(batches: list[Tensor], *, bits: int = 4, axis: int | None = 0) -> nn.Module:
    torch.manual_seed(0)
    config = QuantConfig(
        activations=QuantScheme(bits=bits), weights=QuantScheme(bits=bits, axis=axis, narrow_range=True)
    )
    return calibrate_module(quantize_module(Skipping().eval(), batches[0], config), batches, "max")


def integers(module: nn.Module) -> dict[str, Tensor]:
    found = {}
    for name, layer in quantized_layers(module):
        quantizer = layer._weight_quantizer
        found[name] = torch.round(quantizer(layer.weight.detach()) * quantizer.scheme.high / quantizer.amax)
    return found


def outputs_error(module: nn.Module, wanted: Tensor, images: Tensor) -> float:
    with torch.no_grad():
        return float((module(images) - wanted).square().mean())


@pytest.mark.parametrize("axis", [0, None])
def test_the_outputs_come_nearer_on_other_images_and_no_block_loses(batches: list[Tensor], axis: int | None) -> None:
    module = low_bits(batches, axis=axis)
    torch.manual_seed(0)
    floating, other = Skipping().eval(), torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(9)) - 0.3
    with torch.no_grad():
        wanted = floating(other)
    before = outputs_error(module, wanted, other)
    done = learn_rounding(module, batches, config=FAST)
    assert outputs_error(module, wanted, other) < 0.8 * before
    assert list(done.errors) == ["first.0", "second.0", "second.2", "last"]
    assert all(after <= start for start, after in done.errors.values())
    assert max(done.furthest.values()) >= 1
    assert not any(value.requires_grad for _, quantizer in activation_quantizers(module) for value in [quantizer.amax])


def test_weights_are_whole_multiples_that_rounding_to_nearest_keeps(batches: list[Tensor]) -> None:
    module = low_bits(batches)
    nearest, ranges = integers(module), {name: q._weight_quantizer.amax for name, q in quantized_layers(module)}
    done = learn_rounding(module, batches, config=FAST)
    found = integers(module)
    for name, layer in quantized_layers(module):
        quantizer = layer._weight_quantizer
        torch.testing.assert_close(quantizer.amax, ranges[name], rtol=0, atol=0)
        assert torch.equal(quantizer(layer.weight.detach()), layer.weight.detach())
        assert found[name].abs().max() <= quantizer.scheme.high
        changed = (found[name] - nearest[name]).abs()
        assert done.furthest[name] == int(changed.max())
        assert done.moved[name] == pytest.approx(float((changed > 0).float().mean()))
    assert any(share > 0 for share in done.moved.values())


def test_layers_to_skip_and_weight_ranges_stay(batches: list[Tensor]) -> None:
    module = low_bits(batches)
    kept = {name: value.clone() for name, value in module.named_parameters()}
    done = learn_rounding(module, batches, config=FAST, skip={"last": "the user says so"})
    changed = {name for name, value in module.named_parameters() if not torch.equal(value, kept[name])}
    assert changed == {f"{name}.{part}" for name in ("first.0", "second.0", "second.2") for part in ("weight", "bias")}
    assert set(done.moved) == {"first.0", "second.0", "second.2"}


def test_a_float_layer_of_a_block_learns_its_bias_alone(batches: list[Tensor]) -> None:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(3, 8, 1), nn.SiLU(), nn.Conv2d(8, 4, 1))
    four = QuantScheme(bits=4)
    config = QuantConfig(activations=four, weights=replace(four, axis=0, narrow_range=True), ignore=("0.0.2",))
    module = quantize_module(nn.Sequential(nn.Sequential(inner)).eval(), batches[0], config)
    module = calibrate_module(module, batches, "max")
    kept = {name: value.clone() for name, value in module.named_parameters()}
    learn_rounding(module, batches, config=replace(FAST, steps=10))
    changed = {name for name, value in module.named_parameters() if not torch.equal(value, kept[name])}
    assert changed == {"0.0.0.weight", "0.0.0.bias", "0.0.2.bias"}


def test_a_block_that_gets_worse_is_put_back(batches: list[Tensor]) -> None:
    """At such rates every block is harmed; each is put back with its ranges, so that the module is what it was."""
    module = low_bits(batches)
    before = state_digest(module)
    wild = replace(FAST, steps=3, weight_rate=50.0, bias_rate=50.0, range_rate=1.0)
    done = learn_rounding(module, batches, config=wild)
    assert done.restored == ("first.0", "last", "second.0", "second.2")
    assert all(after == start for start, after in done.errors.values())
    assert state_digest(module) == before


@pytest.mark.parametrize("when", [15, 30])
def test_the_same_again_to_the_last_bit_and_after_an_interruption(batches: list[Tensor], when: int) -> None:
    first = low_bits(batches)
    second, third = copy.deepcopy(first), copy.deepcopy(first)
    states: dict[int, dict[str, Tensor]] = {}
    seen: list[tuple[str, int, int]] = []
    done = learn_rounding(
        first, batches, config=FAST, keep=lambda state: states.update({int(state["done"]): dict(state)})
    )
    assert sorted(states) == [15, 30, 45]
    learn_rounding(second, batches, config=FAST)
    resumed = learn_rounding(third, batches, config=FAST, found=states[when], progress=lambda *step: seen.append(step))
    assert seen[0] == ("rounding", when + 1, 45)
    assert seen[-1] == ("rounding", 45, 45)
    assert state_digest(second) == state_digest(third) == state_digest(first)
    assert resumed == done


def test_the_float_model_may_have_other_parameters_than_the_module(batches: list[Tensor]) -> None:
    """A bias that was shifted before is drawn back to where the float model, not the module, has it."""
    module = low_bits(batches, bits=8)
    floating = {name: value.detach().clone() for name, value in module.named_parameters()}
    with torch.no_grad():
        module.last.bias += 0.05
    learn_rounding(module, batches, config=replace(FAST, steps=80), floating=floating)
    assert (module.last.bias - floating["last.bias"]).abs().max() < 0.02


def test_what_is_not_there_or_not_finite_is_said(batches: list[Tensor]) -> None:
    module = low_bits(batches)
    with pytest.raises(CalibrationError, match="there are 0 images to learn rounding on"):
        learn_rounding(module, [])
    with pytest.raises(CalibrationError, match="the error became nan in step 1"):
        learn_rounding(module, batches, config=FAST, objective=lambda outputs, _: outputs[0].sum() * torch.nan)


def test_the_exported_integers_are_the_learned_ones(batches: list[Tensor], tmp_path: Path) -> None:
    module = low_bits(batches, bits=8)
    nearest = integers(module)
    learn_rounding(module, batches, config=replace(FAST, steps=20))
    learned = integers(module)
    assert any(not torch.equal(learned[name], nearest[name]) for name in learned)
    export_module(module, tmp_path / "model.onnx", batches[0])
    model = onnx.load(tmp_path / "model.onnx")
    constants = initializers(model.graph)
    for name, values in learned.items():
        node = producers(model.graph)[f"{name}/weight/dequantized"]
        assert numpy_helper.to_array(constants[node.input[0]]).tolist() == values.int().tolist()
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {session.get_inputs()[0].name: batches[0].numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(given), module(batches[0]), atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch": -1}, "batch is -1"),
        ({"weight_rate": 0.0}, r"weight_rate is 0\.0"),
        ({"range_rate": float("nan")}, "range_rate is nan"),
        ({"float_share": 1.5}, r"float_share is 1\.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RoundingConfig(**settings)
