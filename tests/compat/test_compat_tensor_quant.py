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

from yoloqat.compat.pytorch_quantization.tensor_quant import (
    fake_affine_tensor_quant,
    fake_tensor_quant,
    legacy_fake_tensor_quant,
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


def test_codes_over_scale_are_the_fake_quantized_values(case):
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
