"""What fake quantization promises, for any values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloqat.config import QuantScheme
from yoloqat.errors import CalibrationError
from yoloqat.quant.functional import (
    AMAX_EPSILON,
    affine_qparams,
    fake_quant,
    fake_quant_affine,
    fake_quant_by_qparams,
    fake_quant_scaled,
    inv_scale,
    quantize,
    reduce_amax,
)

VALUES = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20).map(torch.tensor)
AMAX = st.floats(2.0**-12, 2.0**12, width=32).map(torch.tensor)
SCHEMES = st.one_of(
    st.builds(QuantScheme, bits=st.integers(2, 8), narrow_range=st.booleans()),
    st.builds(QuantScheme, bits=st.integers(2, 8), unsigned=st.just(True)),
)
AFFINE = st.builds(QuantScheme, bits=st.integers(2, 8), symmetric=st.just(False), unsigned=st.booleans())
FEW = settings(max_examples=60, deadline=None)


@FEW
@given(x=VALUES, amax=AMAX, scheme=SCHEMES)
def test_values_lie_on_the_grid_and_saturate_at_its_ends(x, amax, scheme):
    y = fake_quant(x, amax, scheme).double()
    step = amax.double() / scheme.high
    integers = y / step
    assert torch.allclose(integers, integers.round(), rtol=1e-6, atol=0)
    assert integers.round().min() >= scheme.low
    assert integers.round().max() <= scheme.high


@FEW
@given(x=VALUES, amax=AMAX | st.just(torch.tensor(0.0)) | st.just(torch.tensor(AMAX_EPSILON)), scheme=SCHEMES)
def test_numbers_and_tensors_for_scalars_give_the_same_bits(x, amax, scheme):
    by_tensors = fake_quant_scaled(x, inv_scale(amax, scheme), scheme)
    assert torch.equal(fake_quant(x, amax, scheme), by_tensors)
    assert torch.equal(fake_quant(x.half(), amax, scheme), fake_quant_scaled(x.half(), inv_scale(amax, scheme), scheme))


@FEW
@given(x=VALUES, amax=AMAX, scheme=SCHEMES)
def test_the_error_inside_the_range_is_at_most_half_a_step(x, amax, scheme):
    y = fake_quant(x, amax, scheme).double()
    step = amax.double() / scheme.high
    inside = (x >= scheme.low * step) & (x <= amax)
    slack = 1e-6 * x.double().abs()
    assert ((y - x).abs() <= step / 2 + slack)[inside].all()
    assert torch.allclose(y[x > amax], amax.double(), rtol=1e-6)
    assert torch.allclose(y[x < scheme.low * step], scheme.low * step, rtol=1e-6)


@FEW
@given(x=VALUES, amax=AMAX, scheme=SCHEMES)
def test_quantizing_twice_changes_nothing_and_order_is_kept(x, amax, scheme):
    y = fake_quant(x.sort().values, amax, scheme)
    assert torch.equal(fake_quant(y, amax, scheme), y)
    assert (y.diff() >= 0).all()


@FEW
@given(amax=AMAX, scheme=SCHEMES)
def test_zero_stays_zero(amax, scheme):
    assert fake_quant(torch.zeros(3), amax, scheme).tolist() == [0.0] * 3


@FEW
@given(x=VALUES, amax=AMAX, scheme=SCHEMES)
def test_the_gradient_passes_inside_the_range_only(x, amax, scheme):
    x.requires_grad_()
    (3.0 * fake_quant(x, amax, scheme)).sum().backward()
    assert x.grad.tolist() == [3.0 if abs(value) <= float(amax) else 0.0 for value in x.tolist()]


@FEW
@given(x=VALUES, amax=AMAX, scheme=SCHEMES)
def test_a_reference_in_numpy_agrees(x, amax, scheme):
    scale = np.float32(scheme.high) / np.float32(amax)
    integers = np.clip(np.rint(x.numpy() * scale), scheme.low, scheme.high)
    assert np.array_equal(fake_quant(x, amax, scheme).numpy(), integers / scale)
    assert np.array_equal(quantize(x, inv_scale(amax, scheme), scheme).numpy(), integers)


@pytest.mark.parametrize("amax", [0.0, AMAX_EPSILON])
def test_a_vanishing_range_maps_everything_to_zero(amax):
    x = torch.tensor([-3.0, 0.0, 1e-9, 7.0])
    assert fake_quant(x, torch.tensor(amax), QuantScheme()).abs().tolist() == [0.0] * 4
    assert inv_scale(torch.tensor(amax), QuantScheme()).item() == 0.0


def test_a_range_just_above_vanishing_is_used():
    amax = torch.tensor(2 * AMAX_EPSILON)
    assert fake_quant(amax, amax, QuantScheme()).item() == pytest.approx(float(amax), rel=1e-6)


def test_ties_go_to_even():
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert fake_quant(x, torch.tensor(127.0), QuantScheme()).tolist() == [-2.0, -2.0, 0.0, 0.0, 2.0, 2.0]


def test_the_input_is_not_changed():
    x = torch.tensor([0.3, -0.7])
    fake_quant(x, torch.tensor(0.5), QuantScheme())
    fake_quant_by_qparams(x, torch.tensor(0.1), torch.tensor(0.0), QuantScheme(symmetric=False))
    assert torch.equal(x, torch.tensor([0.3, -0.7]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_computed_in_float32_and_kept(dtype):
    x = torch.linspace(-2, 2, 41).to(dtype)
    amax, scheme = torch.tensor(1.7), QuantScheme()
    y = fake_quant(x, amax, scheme)
    assert y.dtype == dtype
    assert torch.equal(y, fake_quant(x.float(), amax, scheme).to(dtype))
    affine = fake_quant_affine(x, torch.tensor(-1.0), torch.tensor(2.0), QuantScheme(symmetric=False))
    assert affine.dtype == dtype


def test_an_overflow_of_float16_does_not_happen_inside():
    x = torch.tensor([6e4, -6e4], dtype=torch.float16)  # times the scale this is far beyond 65504
    assert fake_quant(x, torch.tensor(1.0), QuantScheme(narrow_range=True)).tolist() == [1.0, -1.0]


def test_per_channel_ranges_quantize_each_channel_by_its_own():
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    amax, scheme = torch.tensor([0.5, 1.0, 0.0]).view(1, 3, 1, 1), QuantScheme(axis=1)
    y = fake_quant(x, amax, scheme)
    for channel in range(3):
        assert torch.equal(y[:, channel], fake_quant(x[:, channel], amax[0, channel, 0, 0], scheme))


def test_a_scale_known_beforehand_gives_the_same():
    x, amax, scheme = torch.linspace(-3, 3, 100), torch.tensor(2.1), QuantScheme()
    assert torch.equal(fake_quant_scaled(x, inv_scale(amax, scheme), scheme), fake_quant(x, amax, scheme))


@FEW
@given(
    x=VALUES, ends=st.tuples(st.floats(-100, 100, width=32), st.floats(-100, 100, width=32)).map(sorted), scheme=AFFINE
)
def test_an_affine_grid_holds_zero_and_covers_its_range(x, ends, scheme):
    low, high = torch.tensor(ends[0]), torch.tensor(ends[1])
    step, zero_point = affine_qparams(low, high, scheme)
    assert zero_point == zero_point.round()
    assert scheme.low <= zero_point <= scheme.high
    assert step > 0
    y = fake_quant_affine(x, low, high, scheme)
    assert fake_quant_affine(torch.zeros(1), low, high, scheme).item() == 0.0
    assert torch.allclose(fake_quant_affine(y, low, high, scheme), y)
    inside = (x >= low.clamp(max=0)) & (x <= high.clamp(min=0))
    # the zero-point is rounded, so the ends of the range may lie half a step outside the grid
    assert ((y - x).abs()[inside] <= step * 1.001).all()
    integers = y / step + zero_point
    assert integers.min() >= scheme.low - 1e-3
    assert integers.max() <= scheme.high + 1e-3


def test_an_affine_gradient_passes_inside_the_range_only():
    x = torch.tensor([-2.0, -1.0, 0.0, 3.0, 3.5], requires_grad=True)
    fake_quant_affine(x, torch.tensor(-1.0), torch.tensor(3.0), QuantScheme(symmetric=False)).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_the_upper_end_of_an_affine_range_has_the_gradient_of_its_definition():
    scheme = QuantScheme(symmetric=False)
    x = torch.tensor([-2.0, -0.9, -0.3, 0.71, 1.93, 2.99, 3.5, 8.0])
    low, high = torch.tensor(-1.0), torch.tensor(3.0, requires_grad=True)
    fake_quant_affine(x, low, high, scheme).square().sum().backward()
    scale = torch.tensor(4 / 255, requires_grad=True)
    ticks = x / scale
    inside = (scale * (ticks + (ticks.detach().round() - ticks.detach()))).square()
    expected = 0.0
    for value, y in zip(x.tolist(), inside, strict=True):
        if -1.0 <= value <= 3.0:
            expected += float(torch.autograd.grad(y, scale, retain_graph=True)[0]) / 255
        elif value > 3.0:
            expected += 2 * 3.0  # the result is the end itself
    assert high.grad.item() == pytest.approx(expected / 255**0.5, rel=1e-2)
    assert low.grad is None


def test_a_small_affine_range_is_not_taken_for_an_empty_one():
    high = torch.tensor(1e-6)
    y = fake_quant_affine(high, torch.tensor(0.0), high, QuantScheme(symmetric=False))
    assert y.item() == pytest.approx(1e-6, rel=1e-5)


def test_an_empty_affine_range_has_a_usable_step():
    step, zero_point = affine_qparams(torch.tensor(0.0), torch.tensor(0.0), QuantScheme(symmetric=False, unsigned=True))
    assert (step.item(), zero_point.item()) == (1.0, 0.0)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_amax_per_axis_is_that_of_each_index(axis):
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    amax = reduce_amax(x, axis=axis)
    assert amax.shape == torch.Size([size if dim == axis % 4 else 1 for dim, size in enumerate(x.shape)])
    assert amax.flatten().tolist() == [float(part.abs().max()) for part in x.unbind(axis)]
    assert reduce_amax(x, axis=axis, keepdims=False).tolist() == amax.flatten().tolist()


def test_amax_of_a_vector_per_axis_is_its_absolute_values():
    assert reduce_amax(torch.tensor([-1.0, 2.0]), axis=0).tolist() == [1.0, 2.0]


@given(x=VALUES)
@FEW
def test_amax_of_the_whole_tensor(x):
    assert reduce_amax(x).shape == ()
    assert reduce_amax(x).item() == x.abs().max().item()


def test_amax_along_an_axis_that_is_not_there():
    with pytest.raises(CalibrationError, match=r"axis is 4 and a tensor has shape \(1, 2, 3, 4\)"):
        reduce_amax(torch.ones(1, 2, 3, 4), axis=4)


def test_amax_of_nothing():
    with pytest.raises(CalibrationError, match=r"shape \(0, 3\)"):
        reduce_amax(torch.ones(0, 3))


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:FutureWarning")
@pytest.mark.parametrize("axis", [None, 0])
def test_a_recorded_graph_follows_the_range(axis):
    """A range that became a number while it was recorded would no longer be read."""

    class Site(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("amax", torch.tensor(3.0) if axis is None else torch.tensor([[3.0], [2.0]]))

        def forward(self, x):
            return fake_quant(x, self.amax, QuantScheme(axis=axis))

    location, x = Site(), torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    exported = torch.export.export(location, (x,)).module()
    traced = torch.jit.trace(location, (x,))
    compiled = torch.compile(location, backend="eager", fullgraph=True)
    expected = location(x)
    for recorded in (exported, traced, compiled):
        assert torch.equal(recorded(x), expected)
    for recorded in (exported, traced, location):
        recorded.amax.mul_(0.5)
    for recorded in (exported, traced, compiled):
        assert torch.equal(recorded(x), fake_quant(x, location.amax, QuantScheme(axis=axis)))


def test_reduce_amax_keeps_several_axes():
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(reduce_amax(x, axis=(0, -1)), x.abs().amax(dim=1, keepdim=True))
    assert torch.equal(reduce_amax(x, axis=(0, 2), keepdims=False), x.abs().amax(dim=1))
    assert torch.equal(reduce_amax(x, axis=(0, 1, 2)), x.abs())
    with pytest.raises(CalibrationError, match=r"the channel axis is \(0, 3\) and a tensor has shape \(2, 3, 4\)"):
        reduce_amax(x, axis=(0, 3))
