"""Clipping, torch's own fake quantization, and reductions."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from yoloqat.compat.pytorch_quantization.nn import Clip
from yoloqat.compat.pytorch_quantization.nn.functional import clip, native_fake_quant
from yoloqat.compat.pytorch_quantization.tensor_quant import fake_tensor_quant
from yoloqat.compat.pytorch_quantization.utils import reduce_amax
from yoloqat.config import QuantScheme
from yoloqat.errors import CalibrationError

X = torch.tensor([-2.0, -1.0, 0.5, 1.0, 3.0])


def test_bounds_take_the_gradient_of_everything_at_or_beyond_them():
    x, low, high = (tensor.clone().requires_grad_() for tensor in (X, torch.tensor(-1.0), torch.tensor([1.0])))
    result = clip(x, low, high)
    (result * torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])).sum().backward()
    assert result.tolist() == [-1.0, -1.0, 0.5, 1.0, 1.0]
    assert x.grad.tolist() == [0.0, 0.0, 4.0, 0.0, 0.0]
    assert float(low.grad) == 3.0
    assert high.grad.tolist() == [24.0]


def test_fixed_bounds_may_be_numbers_or_broadcast():
    x = X.clone().requires_grad_()
    clip(x, torch.linspace(-3, 0, 5), 1.0).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]
    learned = clip(x, torch.zeros(5, requires_grad=True), 1.0)  # without a gradient there is nothing wrong with it
    assert learned.tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    with pytest.raises(ValueError, match=r"a bound to be learned has shape \(5,\)"):
        learned.sum().backward()


def test_clip_as_a_layer():
    assert Clip(-1.0, 1.0)(X).tolist() == [-1.0, -1.0, 0.5, 1.0, 1.0]
    learned = Clip(np.array([-1.0]), 1.0, learn_min=True, learn_max=True)
    assert {name: bound.item() for name, bound in learned.named_parameters()} == {
        "clip_value_min": -1.0,
        "clip_value_max": 1.0,
    }
    with pytest.raises(ValueError, match=r"a bound to be learned has shape \(2,\)"):
        Clip(np.zeros(2), 1.0, learn_min=True)


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("shape", [(), (1, 1), (3, 1), (1, 40)])
def test_torchs_own_operator_gives_the_same_integers(shape, unsigned):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 40, generator=generator)
    x = x.abs() if unsigned else x
    amax = torch.rand(shape, generator=generator) + 0.5
    native = native_fake_quant(x, amax, QuantScheme(unsigned=unsigned))
    # it multiplies by the reciprocal of the step, so that only ties may differ
    assert torch.allclose(native, fake_tensor_quant(x, amax, 8, unsigned, False), atol=1e-6)


def test_a_zero_channel_stays_zero_in_torchs_own_operator():
    native = native_fake_quant(torch.zeros(2, 3), torch.tensor([[0.0], [1.0]]), QuantScheme())
    assert native.tolist() == [[0.0] * 3] * 2
    assert native_fake_quant(torch.zeros(3), torch.tensor(0.0), QuantScheme()).tolist() == [0.0] * 3


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x, amax = X.to(dtype), torch.tensor(1.0, dtype=dtype)
    native = native_fake_quant(x, amax, QuantScheme())
    assert native.dtype == dtype
    assert torch.equal(native, native_fake_quant(x.float(), amax.float(), QuantScheme()).to(dtype))


def test_several_axes_are_not_exported():
    with pytest.raises(TypeError, match=r"amax of a quantizer to export has shape \(2, 3\)"):
        native_fake_quant(torch.ones(2, 3), torch.ones(2, 3), QuantScheme())


@pytest.mark.parametrize(
    ("axis", "keepdims", "shape"),
    [
        (None, True, ()),
        (0, True, (1, 3, 4)),
        (0, False, (3, 4)),
        ((1, 2), True, (2, 1, 1)),
        ((1, 2), False, (2,)),
        ([0, 1, 2], True, ()),
        ((), True, (2, 3, 4)),
        (-1, True, (2, 3, 1)),
    ],
)
def test_axes_named_are_reduced(axis, keepdims, shape):
    x = torch.randn(2, 3, 4, requires_grad=True)
    amax = reduce_amax(x, axis, keepdims)
    reduced = tuple(range(3)) if axis is None else axis if isinstance(axis, int) else tuple(axis)
    expected = np.abs(x.detach().numpy()).max(axis=reduced, keepdims=keepdims)
    assert amax.shape == shape
    assert amax.flatten().tolist() == np.asarray(expected).flatten().tolist()
    assert not amax.requires_grad


def test_a_vector_reduced_over_its_axis_keeps_it():
    assert reduce_amax(X, 0).shape == (1,)


def test_more_axes_than_there_are():
    with pytest.raises(ValueError, match=r"axis is \(0, 1\) for a tensor of shape \(5,\)"):
        reduce_amax(X, (0, 1))
    for axis in (1, (-2,)):
        with pytest.raises(IndexError, match=rf"axis is {re.escape(repr(axis))} for a tensor of shape \(5,\)"):
            reduce_amax(X, axis)
    with pytest.raises(RuntimeError, match=r"shape \(0,\)") as caught:
        reduce_amax(torch.zeros(0))
    assert isinstance(caught.value, CalibrationError)
