"""Where NVIDIA's own package is installed, this namespace gives its numbers and exchanges state dicts with it."""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np
import pytest
import torch

from yoloqat.compat import is_installed
from yoloqat.compat import pytorch_quantization as ours


@pytest.fixture(autouse=True)
def _left_as_found():
    """Not installed here: the name must be NVIDIA's."""


@pytest.fixture
def nvidia() -> ModuleType:
    real = pytest.importorskip("pytorch_quantization", reason="NVIDIA's own pytorch-quantization is not installed")
    assert not is_installed()
    for name in ("nn", "calib", "tensor_quant"):
        importlib.import_module(f"pytorch_quantization.{name}")
    return real


@pytest.mark.parametrize("method", ["entropy", "mse", "percentile"])
def test_amax_of_the_same_histogram(nvidia: ModuleType, method: str):
    if method == "mse" and not torch.cuda.is_available():
        pytest.skip("NVIDIA's search by mse needs CUDA")
    values = np.abs(np.random.default_rng(0).standard_normal(20000)).astype(np.float32)
    counts, edges = np.histogram(values, bins=2048, range=(0, values.max()))
    found = []
    for package in (nvidia, ours):
        calibrator = package.calib.HistogramCalibrator(8, None, False)
        calibrator._calib_hist, calibrator._calib_bin_edges = counts.copy(), edges.astype(np.float32)
        found.append(float(calibrator.compute_amax(method)))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("arguments", [(8, False, False), (8, False, True), (8, True, False), (4, False, True)])
def test_fake_quant_and_gradient(nvidia: ModuleType, arguments: tuple[int, bool, bool]):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(8, 500, generator=generator)
    values = values.abs() if arguments[1] else values
    amax = torch.rand(8, 1, generator=generator) + 0.5
    results = []
    for package in (nvidia, ours):
        x = values.clone().requires_grad_()
        y = package.tensor_quant.fake_tensor_quant(x, amax, *arguments)
        y.sum().backward()
        results.append((y, x.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_state_dicts_both_ways(nvidia: ModuleType):
    layers = [package.nn.QuantConv2d(3, 4, 3) for package in (nvidia, ours)]
    for layer in layers:
        layer._input_quantizer.amax = 2.0
        layer._weight_quantizer.amax = np.full((4, 1, 1, 1), 0.3, dtype=np.float32)
    x = torch.randn(1, 3, 8, 8)
    for source, target in (layers, reversed(layers)):
        target.load_state_dict(source.state_dict())
        assert source.state_dict().keys() == target.state_dict().keys()
        assert torch.equal(source(x), target(x))
