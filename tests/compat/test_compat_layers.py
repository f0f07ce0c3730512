"""Every quantized layer computes what torch's layer computes on quantized values."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from yoloqat.compat.pytorch_quantization import nn as quant_nn
from yoloqat.compat.pytorch_quantization.nn.modules import _utils
from yoloqat.compat.pytorch_quantization.tensor_quant import QuantDescriptor
from yoloqat.quant import module_qparams, quantized_layers

SHAPES = {"1d": (2, 4, 12), "2d": (2, 4, 12, 8), "3d": (2, 4, 6, 8, 6)}
WITH_WEIGHT = [
    *((f"Conv{d}", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}) for d in SHAPES),
    *((f"Conv{d}", (4, 6, 3, 1, 1, 1, 1, False, "circular"), {}) for d in SHAPES),
    *((f"ConvTranspose{d}", (4, 6, 3), {"stride": 2, "output_padding": 1}) for d in SHAPES),
    ("Linear", (12, 5), {}),
]
INPUT_ONLY = [
    *((f"MaxPool{d}", (2,), {"ceil_mode": True}) for d in SHAPES),
    *((f"AvgPool{d}", (3, 2), {"padding": 1}) for d in SHAPES),
    *((f"AdaptiveAvgPool{d}", (2,), {}) for d in SHAPES),
    *((f"InstanceNorm{d}", (4,), {"affine": True}) for d in SHAPES),
]


def _input(kind: str) -> torch.Tensor:
    shape = SHAPES.get(kind[-2:], (3, 12))
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kind", "args", "kwargs"), WITH_WEIGHT)
def test_a_layer_with_weight(kind, args, kwargs):
    layer = getattr(quant_nn, f"Quant{kind}")(*args, **kwargs)
    plain = getattr(nn, kind)(*args, **kwargs)
    assert getattr(quant_nn, kind) is type(layer)
    x = _input(kind)
    plain.load_state_dict(layer.state_dict())
    plain.weight.data = layer.weight_quantizer(layer.weight).detach()
    assert torch.equal(layer(x), plain(layer.input_quantizer(x)))
    assert layer.weight_quantizer.axis == (1 if "Transpose" in kind else 0)
    assert layer.input_quantizer.axis is None
    assert isinstance(layer, _utils.QuantMixin)
    assert not isinstance(layer, _utils.QuantInputMixin)
    layer.weight_quantizer.disable()
    layer.input_quantizer.disable()
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), plain(x))


@pytest.mark.parametrize("dimensions", SHAPES)
def test_a_transposed_convolution_takes_an_output_size(dimensions: str):
    layer = getattr(quant_nn, f"QuantConvTranspose{dimensions}")(4, 6, 3, stride=2)
    size = [2 * side + 2 for side in SHAPES[dimensions][2:]]
    assert list(layer(_input(dimensions), output_size=size).shape[2:]) == size


@pytest.mark.parametrize(("kind", "args", "kwargs"), INPUT_ONLY)
def test_a_layer_without_weight(kind, args, kwargs):
    descriptor = QuantDescriptor(4, amax=1.0)
    layer = getattr(quant_nn, f"Quant{kind}")(*args, quant_desc_input=descriptor, **kwargs)
    x = _input(kind)
    plain = getattr(nn, kind)(*args, **kwargs)
    assert torch.equal(layer(x), plain(layer.input_quantizer(x)))
    assert not torch.equal(layer(x), plain(x))
    assert layer.input_quantizer.num_bits == 4
    assert isinstance(layer, _utils.QuantInputMixin)
    assert not hasattr(layer, "weight_quantizer")


def test_max_pool_still_gives_indices():
    assert len(quant_nn.QuantMaxPool2d(2, return_indices=True)(_input("2d"))) == 2


def test_the_core_knows_the_layers():
    model = nn.Sequential(quant_nn.QuantConv2d(4, 6, 3), nn.ReLU(), quant_nn.QuantConv2d(6, 2, 1))
    for layer in (model[0], model[2]):
        layer.input_quantizer.amax = 1.0
        layer.weight_quantizer.amax = layer.weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
    assert [name for name, _ in quantized_layers(model)] == ["0", "2"]
    assert [weight.scale.shape for weight in module_qparams(model).weights.values()] == [(6,), (2,)]


def test_a_weight_is_quantized_anew_when_its_bits_change():
    layer = quant_nn.QuantConv2d(4, 6, 3, bias=False).requires_grad_(False)
    layer.weight_quantizer.amax = 0.1
    x = _input("2d")
    eight = layer(x)
    layer.weight_quantizer.num_bits = 3
    assert not torch.equal(layer(x), eight)
    layer.weight_quantizer.num_bits = 8
    assert torch.equal(layer(x), eight)


def test_copies_and_pickles_compute_the_same():
    layer = quant_nn.QuantConv2d(4, 6, 3, quant_desc_input=QuantDescriptor(calib_method="histogram"))
    x = _input("2d")
    expected = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), expected)


def test_descriptors_in_the_arguments_go_before_the_defaults():
    histogram = QuantDescriptor(calib_method="histogram")
    quant_nn.QuantConv2d.set_default_quant_desc_input(histogram)
    quant_nn.QuantConv2d.set_default_quant_desc_weight(QuantDescriptor(4))
    layer = quant_nn.QuantConv2d(4, 6, 3)
    assert layer.input_quantizer._calibrator.__class__.__name__ == "HistogramCalibrator"
    assert (layer.weight_quantizer.num_bits, layer.weight_quantizer.axis) == (4, None)
    given = quant_nn.QuantConv2d(4, 6, 3, quant_desc_input=QuantDescriptor(6), quant_desc_weight=QuantDescriptor(5))
    assert (given.input_quantizer.num_bits, given.weight_quantizer.num_bits) == (6, 5)
    assert quant_nn.QuantConv2d.default_quant_desc_input == histogram
    assert quant_nn.QuantConv2d.default_quant_desc_input is not histogram
    assert quant_nn.QuantLinear(2, 2).input_quantizer._calibrator.__class__.__name__ == "MaxCalibrator"


def test_a_layer_of_ones_own():
    class QuantScaledLinear(nn.Linear, _utils.QuantMixin):
        def __init__(self, *args, **kwargs):
            super().__init__(*args)
            self.init_quantizer(*_utils.pop_quant_desc_in_kwargs(type(self), **kwargs))

        def forward(self, x):
            return nn.functional.linear(self._input_quantizer(x), self._weight_quantizer(self.weight), self.bias)

    class QuantConcat(nn.Module, _utils.QuantInputMixin):
        def __init__(self, **kwargs):
            super().__init__()
            self.init_quantizer(_utils.pop_quant_desc_in_kwargs(type(self), input_only=True, **kwargs))

        def forward(self, *xs):
            return torch.cat([self._input_quantizer(x) for x in xs])

    assert QuantScaledLinear(3, 2, quant_desc_weight=QuantDescriptor(axis=0))(torch.ones(1, 3)).shape == (1, 2)
    assert QuantConcat()(torch.ones(1), torch.ones(2)).shape == (3,)
    assert QuantConcat()._input_quantizer.name == "QuantConcat._input_quantizer"


def test_quantizers_for_several_layers():
    class QuantStack(nn.Module, _utils.QuantMixin):
        def __init__(self):
            super().__init__()
            self.init_quantizer(QuantDescriptor(), QuantDescriptor(axis=0), num_layers=3)

    stack = QuantStack()
    assert [len(stack._input_quantizers), len(stack._weight_quantizers)] == [3, 3]
    assert stack._weight_quantizers[2].axis == 0


def test_mistakes_are_named():
    with pytest.raises(TypeError, match="argument 'quant_desc_output' is unknown"):
        _utils.pop_quant_desc_in_kwargs(quant_nn.QuantConv2d, quant_desc_output=QuantDescriptor())
    with pytest.raises(TypeError, match="argument 'quant_desc_weight' is unknown"):
        quant_nn.QuantMaxPool2d(2, quant_desc_weight=QuantDescriptor())
    with pytest.raises(TypeError, match="strides"):
        quant_nn.QuantConv2d(4, 6, 3, strides=2)
    with pytest.raises(ValueError, match="fake_quant is False for _weight_quantizer of a QuantLinear"):
        quant_nn.QuantLinear(2, 2, quant_desc_weight=QuantDescriptor(fake_quant=False))
    for setter in (
        quant_nn.QuantConv2d.set_default_quant_desc_input,
        quant_nn.QuantConv2d.set_default_quant_desc_weight,
        quant_nn.QuantMaxPool2d.set_default_quant_desc_input,
    ):
        with pytest.raises(ValueError, match="default is 8"):
            setter(8)


def test_a_layer_of_one_output_channel_is_calibrated_again():
    layer = quant_nn.QuantConv2d(4, 1, 3)
    layer.weight_quantizer.amax = 1.0
    layer.calibrate_weight()
    assert torch.equal(layer.weight_quantizer.amax, layer.weight.detach().abs().max().reshape(1, 1, 1, 1))


def test_a_weight_with_two_axes():
    layer = quant_nn.QuantConv2d(4, 6, 3, quant_desc_weight=QuantDescriptor(axis=(0, 1)))
    expected = layer.weight.detach().abs().amax(dim=(2, 3), keepdim=True)
    dynamic = layer(_input("2d"))
    layer.calibrate_weight()
    assert torch.equal(layer.weight_quantizer.amax, expected)
    assert torch.equal(layer(_input("2d")), dynamic)
    layer.requires_grad_(False)
    assert torch.equal(layer(_input("2d")), dynamic)
