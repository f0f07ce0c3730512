"""Weights calibrated by other methods than max."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from yoloqat.compat.pytorch_quantization import nn as quant_nn
from yoloqat.compat.pytorch_quantization.calib import HistogramCalibrator, calibrate_weights
from yoloqat.compat.pytorch_quantization.tensor_quant import QuantDescriptor, fake_tensor_quant


@pytest.fixture
def model() -> nn.Sequential:
    model = nn.Sequential(
        quant_nn.QuantConv2d(3, 4, 3),
        quant_nn.QuantConvTranspose2d(4, 2, 3),
        nn.Conv2d(2, 2, 1),
        quant_nn.QuantMaxPool2d(2),
    )
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(generator=generator)
    return model


def test_max_is_the_largest_value_of_each_output_channel(model):
    calibrate_weights(model, "max")
    assert torch.equal(model[0].weight_quantizer.amax, model[0].weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True))
    assert torch.equal(model[1].weight_quantizer.amax, model[1].weight.detach().abs().amax(dim=(0, 2, 3), keepdim=True))


@pytest.mark.parametrize("method", ["mse", "percentile"])
@pytest.mark.parametrize("perchannel", [True, False])
def test_each_channel_is_searched_in_a_histogram_of_its_own(model, method, perchannel):
    calibrate_weights(model, method, perchannel, 90.0, 512)
    for layer, axis in ((model[0], 0), (model[1], 1)):
        weight, amax = layer.weight.detach().numpy(), layer.weight_quantizer.amax
        rows = np.moveaxis(weight, axis, 0) if perchannel else weight[None]
        expected = []
        for row in rows:
            calibrator = HistogramCalibrator(8, None, False)
            calibrator._calib_hist, calibrator._calib_bin_edges = np.histogram(
                np.abs(row), bins=512, range=(0, np.abs(row).max())
            )
            expected.append(float(calibrator.compute_amax(method, percentile=90.0)))
        assert amax.flatten().tolist() == pytest.approx(expected, rel=1e-6)
        assert amax.numel() == (weight.shape[axis] if perchannel else 1)
        assert layer(torch.ones(1, weight.shape[1] if axis == 0 else weight.shape[0], 5, 5)).isfinite().all()


def test_an_all_zero_channel_gets_zero(model):
    model[0].weight.data[1] = 0
    calibrate_weights(model, "mse")
    assert model[0].weight_quantizer.amax[1].item() == 0.0
    assert (model[0].weight_quantizer.amax[[0, 2, 3]] > 0).all()


@pytest.mark.parametrize(
    ("name", "value"), [("percentile", -10), ("percentile", 200), ("num_bins", 0), ("num_bins", 1.5)]
)
def test_numbers_out_of_range_are_refused(model, name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        calibrate_weights(model, **{name: value})


def test_other_methods_are_refused(model):
    with pytest.raises(TypeError, match="calibration method is 'entropy'"):
        calibrate_weights(model, "entropy")


@pytest.mark.parametrize("perchannel", [True, False])
def test_mse_and_percentile_are_those_of_nvidias_loop_to_the_last_bit(model, perchannel):
    for layer, axis in ((model[0], 0), (model[1], 1)):
        values = layer.weight.detach().abs().numpy()
        rows = np.moveaxis(values, axis, 0) if perchannel else values[None]
        expected: dict[str, list[float]] = {"mse": [], "percentile": []}
        for row in rows:
            counts, edges = np.histogram(row, bins=2048, range=(0, row.max()))
            cumulative = np.cumsum(counts / counts.sum())
            expected["percentile"].append(float(np.float32(edges[np.searchsorted(cumulative, 0.9)])))
            ends, weights = torch.from_numpy(edges).float(), torch.from_numpy(counts).float()
            centers = (ends[1:] + ends[:-1]) / 2
            errors = [((fake_tensor_quant(centers, amax) - centers) ** 2 * weights).mean() for amax in centers[128:]]
            expected["mse"].append(float(centers[128 + int(torch.stack(errors).argmin())]))
        for method, amax in expected.items():
            layer.weight_quantizer.reset_amax()
            calibrate_weights(nn.Sequential(layer), method, perchannel, 90.0)
            assert layer.weight_quantizer.amax.flatten().tolist() == amax


def test_fp8_has_no_integers_to_search():
    model = nn.Sequential(quant_nn.QuantConv2d(3, 4, 3, quant_desc_weight=QuantDescriptor((4, 3), axis=0)))
    calibrate_weights(model, "max")
    assert model[0].weight_quantizer.amax.shape == (4, 1, 1, 1)
    with pytest.raises(TypeError, match=r"num_bits is \(4, 3\) with method 'mse'"):
        calibrate_weights(model, "mse")
