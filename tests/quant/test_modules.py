"""Quantized layers: float when switched off, exact when on, and the weight fake-quantized once."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from yoloqat.config import QuantScheme
from yoloqat.quant import QuantConv2d, QuantConvTranspose2d, QuantLinear, quantization_disabled
from yoloqat.quant.functional import fake_quant, reduce_amax

ACTIVATIONS = QuantScheme()
WEIGHTS = QuantScheme(axis=0, narrow_range=True)

CONVOLUTIONS = [
    {"padding": 1},
    {"padding": "same"},
    {"padding": "valid"},
    {"padding": (2, 0), "stride": (2, 1)},
    {"padding": 2, "dilation": 2},
    {"groups": 2},
    {"groups": 4, "bias": False},
    *({"padding": 1, "padding_mode": mode} for mode in ("reflect", "replicate", "circular")),
]
TRANSPOSED = [
    {},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"groups": 2, "bias": False},
    {"dilation": 2, "stride": (1, 2)},
]


def seeded(layer: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        parameter.data.normal_(generator=generator)
    return layer


def quantized(layer: nn.Module, *, activations: QuantScheme = ACTIVATIONS, weights: QuantScheme = WEIGHTS):
    kinds = {nn.Conv2d: QuantConv2d, nn.ConvTranspose2d: QuantConvTranspose2d, nn.Linear: QuantLinear}
    result = kinds[type(layer)].from_float(layer, activations=activations, weights=weights, name="layer")
    result.calibrate_weight()
    return result


def counted(layer, monkeypatch) -> list[torch.Tensor]:
    """Return a list that grows by one at each fake quantization of the weight."""
    calls: list[torch.Tensor] = []
    forward = layer._weight_quantizer.forward
    monkeypatch.setattr(layer._weight_quantizer, "forward", lambda x: calls.append(x) or forward(x))
    return calls


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 4, 7, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def conv() -> nn.Conv2d:
    return seeded(nn.Conv2d(4, 8, 3))


def assert_off_is_float_and_on_is_fake_quant(layer, x, *arguments) -> None:
    quant = quantized(layer)
    with quantization_disabled(quant):
        assert torch.equal(quant(x, *arguments), layer(x, *arguments))
    reference = copy.deepcopy(layer)
    weights = quant._weight_quantizer.scheme
    reference.weight.data = fake_quant(layer.weight, reduce_amax(layer.weight, axis=weights.axis), weights).detach()
    expected = reference(fake_quant(x, x.abs().max(), ACTIVATIONS), *arguments)
    assert torch.equal(quant(x, *arguments), expected)
    assert not torch.equal(expected, layer(x, *arguments))


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_convolution(options, x):
    assert_off_is_float_and_on_is_fake_quant(seeded(nn.Conv2d(4, 8, 3, **options)), x)


@pytest.mark.parametrize("options", TRANSPOSED, ids=str)
def test_transposed_convolution(options, x):
    assert_off_is_float_and_on_is_fake_quant(seeded(nn.ConvTranspose2d(4, 6, 3, **options)), x)


def test_transposed_convolution_to_a_given_size(x):
    layer = seeded(nn.ConvTranspose2d(4, 6, 3, stride=2))
    assert_off_is_float_and_on_is_fake_quant(layer, x, [16, 14])
    assert quantized(layer)(x, [16, 14]).shape[-2:] == (16, 14)


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias, x):
    assert_off_is_float_and_on_is_fake_quant(seeded(nn.Linear(6, 5, bias=bias)), x)


def test_scales_lie_along_the_output_channels():
    shapes = {
        layer: tuple(quantized(layer)._weight_quantizer.amax.shape)
        for layer in (nn.Conv2d(4, 8, 3), nn.ConvTranspose2d(4, 6, 3), nn.Linear(4, 5))
    }
    assert list(shapes.values()) == [(8, 1, 1, 1), (1, 6, 1, 1), (5, 1)]
    whole = quantized(nn.Conv2d(4, 8, 3), weights=QuantScheme())
    assert whole._weight_quantizer.amax.shape == ()


def test_the_float_layer_is_shared_and_left_alone(conv, x):
    conv.note = "mine"
    before, keys = conv(x), set(vars(conv))
    quant = quantized(conv)
    assert quant.weight is conv.weight
    assert quant.bias is conv.bias
    assert quant.note == "mine"
    assert list(conv.state_dict()) == ["weight", "bias"]
    assert not list(conv.children())
    quant.register_forward_hook(lambda *_: torch.zeros(1))
    quant.register_buffer("own", torch.zeros(1), persistent=False)
    assert set(vars(conv)) == keys
    assert not conv._non_persistent_buffers_set
    assert torch.equal(conv(x), before)
    assert torch.equal(quant(x), torch.zeros(1))


def test_the_names_of_sites_come_from_the_layer(conv):
    quant = quantized(conv)
    assert (quant._input_quantizer.name, quant._weight_quantizer.name) == (
        "layer._input_quantizer",
        "layer._weight_quantizer",
    )


def test_the_weight_is_quantized_once(conv, x, monkeypatch):
    quant = quantized(conv)
    calls = counted(quant, monkeypatch)
    with torch.no_grad():
        first = quant(x)
        assert torch.equal(quant(x), first)
    with torch.inference_mode():
        assert torch.equal(quant(x), first)
    assert len(calls) == 1


@pytest.mark.parametrize("frozen", [True, False])
def test_it_is_quantized_anew_when_something_changed(conv, x, monkeypatch, frozen):
    conv.requires_grad_(not frozen)
    quant = quantized(conv)
    calls = counted(quant, monkeypatch)
    quantizer = quant._weight_quantizer
    changes = {
        "in place": lambda: quant.weight.mul_(2.0),
        "other values": lambda: quant.load_state_dict({k: v * 1.1 for k, v in quant.state_dict().items()}),
        "another tensor under the parameter": lambda: setattr(quant.weight, "data", quant.weight.data * 0.9),
        "another parameter": lambda: setattr(quant, "weight", nn.Parameter(quant.weight.detach() * 1.3)),
        "another amax": quant.calibrate_weight,
        "amax in place": lambda: quantizer.amax.mul_(0.5),
        "no amax": quantizer.reset_amax,
    }
    with torch.no_grad():
        for count, (name, change) in enumerate(changes.items(), start=1):
            quant(x)
            change()
            result = quant(x)
            amax = quantizer.amax if quantizer.amax is not None else reduce_amax(quant.weight, axis=0)
            expected = fake_quant(quant.weight, amax, quantizer.scheme)
            assert torch.equal(quant.quantized_weight(), expected), name
            assert torch.equal(result, quant(x)), name
            assert len(calls) >= count + 1, name


def test_switches_of_the_weight_count_at_once(conv, x):
    quant = quantized(conv)
    with torch.no_grad():
        on = quant(x)
        quant._weight_quantizer.disable()
        assert quant.quantized_weight() is quant.weight
        quant._weight_quantizer.enable()
        quant._weight_quantizer.disable_quant()
        assert quant.quantized_weight() is quant.weight
        quant._weight_quantizer.enable_quant()
        assert torch.equal(quant(x), on)


def test_a_kept_weight_still_collects(conv, x):
    quant = quantized(conv)
    with torch.no_grad():
        quant(x)
        quant._weight_quantizer.enable_calib()
        quant(x)
    quant._weight_quantizer.load_calib_amax()
    assert torch.equal(quant._weight_quantizer.amax, reduce_amax(conv.weight, axis=0))


def test_gradients_flow_in_training(conv, x):
    quant = quantized(conv)
    with torch.no_grad():
        quant(x)
    leaf = x.clone().requires_grad_()
    quant(leaf).square().sum().backward()
    assert quant.weight.grad.abs().sum() > 0
    assert leaf.grad.abs().sum() > 0
    before = quant.quantized_weight().detach().clone()
    torch.optim.SGD(quant.parameters(), lr=0.01).step()
    with torch.no_grad():
        assert not torch.equal(quant.quantized_weight(), before)


def test_frozen_weights_seen_in_inference_mode_serve_gradients_of_the_input_later(conv, x):
    conv.requires_grad_(False)
    quant = quantized(conv)
    with torch.inference_mode():
        quant(x)
    leaf = x.clone().requires_grad_()
    quant(leaf).sum().backward()
    assert leaf.grad.abs().sum() > 0


def test_a_layer_made_in_inference_mode_runs():
    with torch.inference_mode():
        layer = nn.Linear(3, 2)
        quant = quantized(layer)
        first = quant(torch.ones(1, 3))
        layer.weight.mul_(2.0)
        assert not torch.equal(quant(torch.ones(1, 3)), first)


def test_copies_do_not_share_the_kept_weight(conv, x):
    quant = quantized(conv)
    with torch.no_grad():
        expected = quant(x)
        for twin in (copy.deepcopy(quant), pickle.loads(pickle.dumps(quant))):
            assert twin._quantized_weight is None
            assert torch.equal(twin(x), expected)
            twin.weight.zero_()
            twin.bias.zero_()
            assert torch.equal(twin(x), torch.zeros_like(expected))
        assert torch.equal(quant(x), expected)


def test_another_precision_is_followed(conv, x):
    quant = quantized(conv)
    with torch.no_grad():
        quant(x)
        result = quant.double()(x.double())
    assert result.dtype == torch.float64


def test_the_state_dict_holds_ranges_beside_the_float_layers_tensors(conv):
    quant = quantized(conv)
    assert list(quant.state_dict()) == ["weight", "bias", "_weight_quantizer._amax"]
    quant._input_quantizer.amax = 3.0
    fresh = quantized(seeded(nn.Conv2d(4, 8, 3)))
    fresh.load_state_dict(quant.state_dict())
    assert fresh._input_quantizer.amax == 3.0
