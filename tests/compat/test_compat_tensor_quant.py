"""The functions of ``tensor_quant`` give NVIDIA's numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yoloqat.compat.pytorch_quantization import cuda_ext
from yoloqat.compat.pytorch_quantization import tensor_quant as module
from yoloqat.compat.pytorch_quantization.tensor_quant import (
    fake_affine_tensor_quant,
    fake_tensor_quant,
    legacy_fake_tensor_quant,
    scaled_e4m3,
    tensor_quant,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "nvidia_pytorch_quantization"
CASES = json.loads(GOLDEN.with_suffix(".json").read_text(encoding="utf-8"))["fake_quant"]


@pytest.fixture(params=CASES, ids=lambda case: case["name"])
def case(request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    with np.load(GOLDEN.with_suffix(".npz")) as arrays:
        name = request.param["name"]
        tensors = {key: torch.tensor(arrays[f"{name}/{key}"]) for key in ("x", "amax", "y", "grad")}
    return request.param, tensors


@pytest.mark.parametrize("function", [fake_tensor_quant, legacy_fake_tensor_quant])
def test_fake_quant_and_gradient_are_nvidias(case, function):
    flags, tensors = case
    x = tensors["x"].requires_grad_()
    y = function(x, tensors["amax"], flags["num_bits"], flags["unsigned"], flags["narrow_range"])
    y.sum().backward()
    assert torch.equal(y, tensors["y"])
    assert torch.equal(x.grad, tensors["grad"])


def test_integers_over_scale_are_the_fake_quantized_values(case):
    flags, tensors = case
    x = tensors["x"].requires_grad_()
    integers, scale = tensor_quant(x, tensors["amax"], flags["num_bits"], flags["unsigned"], flags["narrow_range"])
    integers.sum().backward()
    assert torch.equal(integers, integers.round())
    assert torch.equal(integers / scale, tensors["y"])
    assert (scale[tensors["amax"] == 0] == 1).all()
    assert torch.equal(x.grad, tensors["grad"])
    assert not scale.requires_grad


def test_the_range_is_narrow_unless_told_otherwise():
    x = torch.tensor([-2.0])
    assert float(fake_tensor_quant(x, torch.tensor(1.0))) == -1.0
    assert float(fake_tensor_quant(x, 1.0, 8, False, False)) == pytest.approx(-128 / 127)
    assert float(tensor_quant(x, torch.tensor(1.0))[0]) == -127


@given(
    st.floats(-50, 0),
    st.floats(0.1, 50),
    st.integers(2, 8),
    st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=20),
)
def test_affine_is_gemmlowps_grid_where_the_range_holds_zero(low: float, high: float, bits: int, values: list[float]):
    x, low_, high_ = torch.tensor(values), torch.tensor(low), torch.tensor(high)
    step = (high_ - low_) / (2**bits - 1)
    zero = torch.round(low_ / step) + 2 ** (bits - 1)
    expected = (torch.clamp(torch.round(x / step) - zero, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) + zero) * step
    difference = (fake_affine_tensor_quant(x, low_, high_, bits) - expected).abs()
    tie = ((x / step) % 1 - 0.5).abs() < 1e-3  # the two formulas may round a tie of the zero-point differently
    tie |= ((low_ / step) % 1 - 0.5).abs() < 1e-3
    assert (difference[~tie] <= 1e-4 * float(high - low)).all()


def test_affine_passes_the_gradient_inside_the_range_and_takes_numbers():
    x = torch.tensor([-2.0, -1.0, 0.5, 3.0, 4.0], requires_grad=True)
    fake_affine_tensor_quant(x, -1.0, 3.0).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("function", [fake_tensor_quant, tensor_quant])
def test_negative_values_without_sign_are_refused(function):
    with pytest.raises(TypeError, match=r"holds -0\.5"):
        function(torch.tensor([1.0, -0.5]), torch.tensor(1.0), 8, True)


@pytest.mark.parametrize("function", [fake_tensor_quant, tensor_quant])
def test_a_negative_amax_is_refused(function):
    with pytest.raises(ValueError, match=r"amax is -0\.25"):
        function(torch.ones(2), torch.tensor([1.0, -0.25]))


def test_a_scale_beyond_half_precision_is_refused():
    with pytest.raises(ValueError, match=r"amax is 0\.0001 with half-precision"):
        tensor_quant(torch.ones(2).half(), torch.tensor(1e-4))
    assert tensor_quant(torch.ones(2).half(), torch.tensor(1.0))[0].dtype == torch.half


@pytest.mark.parametrize(
    "function", [fake_tensor_quant, legacy_fake_tensor_quant, lambda *args: tensor_quant(*args)[0]]
)
def test_a_range_that_comes_from_the_input_takes_no_gradient(function):
    x = torch.randn(3, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    amax = x.abs().max() / 2
    ((function(x, amax) - 0.5) ** 2).sum().backward()
    assert torch.equal(x.grad != 0, x.abs() <= amax)


def test_so_an_affine_one():
    x = torch.randn(3, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    low, high = x.min() / 2, x.max() / 2
    ((fake_affine_tensor_quant(x, low, high) - 0.5) ** 2).sum().backward()
    assert torch.equal(x.grad != 0, (x >= low) & (x <= high))


def test_other_widths_are_refused():
    for value, kind in ((17, ValueError), (1, ValueError), ("8", TypeError)):
        for function in (fake_tensor_quant, tensor_quant):
            with pytest.raises(kind, match=f"num_bits is {value}|num_bits is '8'"):
                function(torch.ones(2), torch.tensor(1.0), value)
        with pytest.raises(kind, match=f"num_bits is {value}|num_bits is '8'"):
            fake_affine_tensor_quant(torch.ones(2), 0.0, 1.0, value)


def test_the_cuda_extension_answers_on_any_device():
    x = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    amax = torch.tensor([0.8, 1e-26, 0.7, 0.6])
    expected = fake_tensor_quant(x, amax.view(1, -1, 1), 7, True, False)
    result = cuda_ext.fake_tensor_quant_with_axis(x, amax.view(4, 1), 1, 7, True, False)
    assert torch.equal(result, expected)
    assert not result.requires_grad
    assert torch.equal(
        cuda_ext.fake_tensor_quant_with_axis(x, amax, axis=-2), fake_tensor_quant(x, amax.view(1, -1, 1))
    )
    assert (result[:, 1] == 0).all()
    values = x.detach().clone()
    assert torch.equal(cuda_ext.fake_tensor_quant(values, torch.tensor(0.5)), fake_tensor_quant(values, 0.5))
    assert cuda_ext.fake_tensor_quant_(values, torch.tensor(0.5)) is None
    assert torch.equal(values, fake_tensor_quant(x, 0.5).detach())


@pytest.mark.parametrize(("count", "axis"), [(3, 1), (4, 3), (4, -4)])
def test_the_extension_wants_a_value_per_index(count: int, axis: int):
    with pytest.raises(RuntimeError, match=rf"axis is {axis} and amax has {count} values for .* \(3, 4, 5\)"):
        cuda_ext.fake_tensor_quant_with_axis(torch.ones(3, 4, 5), torch.ones(count), axis)


def test_fp8_rounds_to_the_nearest_of_its_numbers():
    # 3 bits of mantissa: steps of 1/8 from 1 to 2, of 1/512 at most below 1/64, 448 the largest
    x = torch.tensor([1.0624, 1.0625, 1.0626, 1.1875, 0.0009, 0.001, 1e-9, 447.0, 1e6, -3.3])
    expected = [1.0, 1.0, 1.125, 1.25, 0.0, 1 / 512, 0.0, 448.0, 448.0, -3.25]
    assert scaled_e4m3(x).tolist() == expected
    assert cuda_ext.fake_e4m3fy(x).tolist() == expected
    assert scaled_e4m3(x.half())[2:4].tolist() == [1.0, 1.25]
    assert scaled_e4m3(torch.tensor([-2.0, -1.8, 0.6, 1.4]), 2.0).tolist() == pytest.approx(
        [-2.0, -1.857142, 0.571428, 1.428571], abs=1e-5
    )


def test_fp8_passes_the_gradient_inside_the_range_and_keeps_zeros():
    x = torch.tensor([-3.0, -2.0, 0.0, 1.0, 2.5], requires_grad=True)
    scaled_e4m3(x, torch.tensor(2.0)).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert scaled_e4m3(torch.tensor([0.0, 1.0]), torch.tensor(0.0)).tolist() == [0.0, 0.0]
    with pytest.raises(NotImplementedError, match=r"E and M are \(5, 2\)"):
        scaled_e4m3(x, None, 5, 2)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("TensorQuantFunction", tensor_quant),
        ("FakeTensorQuantFunction", fake_tensor_quant),
        ("LegacyFakeTensorQuantFunction", legacy_fake_tensor_quant),
        ("FakeAffineTensorQuantFunction", fake_affine_tensor_quant),
        ("ScaledE4M3Function", scaled_e4m3),
    ],
)
def test_nvidias_classes_apply_the_functions(name: str, function):
    assert getattr(module, name).apply is function
