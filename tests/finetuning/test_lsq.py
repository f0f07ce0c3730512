from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloqat.config import QuantScheme
from yoloqat.quant.functional import fake_quant


def reference(x: torch.Tensor, amax: torch.Tensor, gradient: torch.Tensor, scheme: QuantScheme) -> torch.Tensor:
    """Equation 3 of LSQ, element by element, by step; amax = step * q_high."""
    step = amax.double().numpy() / scheme.high
    v = x.double().numpy() / step
    slope = np.where(np.abs(v) <= scheme.high, np.rint(v) - v, np.where(v < 0, scheme.low, scheme.high))
    by_amax = gradient.double().numpy() * slope / scheme.high
    total = torch.from_numpy(by_amax).sum_to_size(amax.shape)
    return total / (x.numel() / x.shape[0] * scheme.high) ** 0.5


@given(st.integers(0, 10_000), st.sampled_from([4, 6, 8]), st.booleans(), st.floats(0.1, 3.0))
@settings(max_examples=40, deadline=None)
def test_the_gradient_of_amax_is_that_of_lsq(seed: int, bits: int, per_channel: bool, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    scheme = QuantScheme(bits=bits, axis=0 if per_channel else None, narrow_range=True)
    x, gradient = torch.randn(3, 5, generator=generator), torch.randn(3, 5, generator=generator)
    amax = torch.full((3, 1) if per_channel else (), size).requires_grad_()
    fake_quant(x, amax, scheme).backward(gradient)
    expected = reference(x, amax.detach(), gradient, scheme)
    assert amax.grad.shape == amax.shape
    assert torch.allclose(amax.grad.double(), expected, atol=1e-4)


@pytest.mark.parametrize("learned", [False, True])
def test_the_gradient_of_values_is_straight_through(learned: bool) -> None:
    x = torch.tensor([-1.5, -1.0, -0.3, 0.0, 1.0, 1.0001]).reshape(1, -1).requires_grad_()
    amax = torch.tensor(1.0, requires_grad=learned)
    fake_quant(x, amax, QuantScheme()).backward(torch.arange(1.0, 7.0).reshape(1, -1))
    assert x.grad.tolist() == [[0.0, 2.0, 3.0, 4.0, 5.0, 0.0]]
    assert (amax.grad is not None) == learned


def test_half_precision_keeps_one_byte_per_value_for_the_gradient() -> None:
    kept: list[torch.Tensor] = []
    x = torch.randn(10, 10, requires_grad=True).bfloat16()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        fake_quant(x, torch.tensor(1.0), QuantScheme())
    assert [(tensor.dtype, tensor.numel()) for tensor in kept] == [(torch.bool, 100)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("axis", [None, 0])
def test_a_gpu_gives_the_same_numbers_and_gradients(learned: bool, axis: int | None) -> None:
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    amax = torch.tensor(1.5) if axis is None else torch.linspace(0.5, 3, 8).reshape(8, 1, 1, 1)
    found = []
    for device in ("cpu", "cuda"):
        values = x.detach().clone().to(device).requires_grad_()
        limit = amax.detach().clone().to(device).requires_grad_(learned)
        result = fake_quant(values * 1, limit, QuantScheme(axis=axis, narrow_range=True))
        result.backward(torch.ones_like(result))
        found.append((result.detach().cpu(), values.grad.cpu(), limit.grad.cpu() if learned else None))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    if learned:
        assert torch.allclose(found[0][2], found[1][2], rtol=1e-4)
