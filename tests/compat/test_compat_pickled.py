"""Models that were pickled whole with NVIDIA's package come back as ours."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch

from yoloqat.compat.pytorch_quantization import calib
from yoloqat.compat.pytorch_quantization import nn as quant_nn

SWITCHES = {"_disabled": False, "_if_quant": True, "_if_clip": False, "_if_calib": False}
HISTOGRAM = np.bincount(np.arange(2048) // 8)


def _nvidias_calibrator(kind: Any, **state: Any) -> Any:
    calibrator = kind.__new__(kind)
    calibrator.__setstate__(state) if hasattr(kind, "__setstate__") else calibrator.__dict__.update(state)
    return calibrator


def _nvidias_quantizer(calibrator: Any, axis: int | None, amax: torch.Tensor | None) -> dict[str, Any]:
    """Return the attributes of NVIDIA's TensorQuantizer, release 2.1."""
    module = vars(torch.nn.Module()).copy()
    module["_buffers"] = {} if amax is None else {"_amax": amax}
    own = {"_num_bits": 8, "_fake_quant": True, "_axis": axis, "_scale_amax": None, "_learn_amax": False}
    return {
        **module,
        **own,
        **SWITCHES,
        "_unsigned": False,
        "_narrow_range": False,
        "_scale": 1.0,
        "_calibrator": calibrator,
    }


@pytest.fixture
def histogram() -> Any:
    common = {
        "_num_bits": 8,
        "_axis": None,
        "_unsigned": False,
        "_num_bins": 256,
        "_skip_zeros": False,
        "_torch_hist": True,
    }
    edges = torch.linspace(0, 2.0, 257)
    counts = torch.from_numpy(HISTOGRAM).float()
    return _nvidias_calibrator(calib.HistogramCalibrator, **common, _calib_hist=counts, _calib_bin_edges=edges)


def test_a_layer_with_its_ranges(histogram):
    layer = quant_nn.QuantConv2d.__new__(quant_nn.QuantConv2d)
    state = vars(torch.nn.Conv2d(2, 3, 3)).copy()
    weights = _nvidias_calibrator(
        calib.MaxCalibrator, _num_bits=8, _axis=0, _unsigned=False, _track_amax=False, _calib_amax=None
    )
    for name, calibrator, axis, amax in (
        ("_input_quantizer", histogram, None, torch.tensor(1.5)),
        ("_weight_quantizer", weights, 0, None),
    ):
        quantizer = quant_nn.TensorQuantizer.__new__(quant_nn.TensorQuantizer)
        quantizer.__setstate__(_nvidias_quantizer(calibrator, axis, amax))
        state["_modules"][name] = quantizer
    layer.__setstate__({**state, "_fake_quant": True})

    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    layer = torch.load(file, weights_only=False)
    assert layer.input_quantizer.amax == 1.5
    assert layer.input_quantizer.axis is None
    assert layer.weight_quantizer.axis == 0
    assert not hasattr(layer.weight_quantizer, "_amax")
    x = torch.rand(1, 2, 5, 5)
    fresh = quant_nn.QuantConv2d(2, 3, 3)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), fresh(x))
    layer.weight_quantizer.enable_calib()
    layer(x)
    layer.weight_quantizer.load_calib_amax()
    assert layer.weight_quantizer.amax.shape == (3, 1, 1, 1)


def test_a_calibrator_with_its_histogram(histogram):
    assert histogram._calib_hist.tolist() == HISTOGRAM.tolist()
    assert histogram.compute_amax("percentile", percentile=50.0) == pytest.approx(1.0, abs=0.01)


def test_a_calibrator_that_saw_nothing_collects():
    state = {
        "_num_bits": 8,
        "_axis": None,
        "_unsigned": True,
        "_num_bins": 2048,
        "_skip_zeros": True,
        "_torch_hist": False,
    }
    calibrator = _nvidias_calibrator(calib.HistogramCalibrator, **state, _calib_hist=None, _calib_bin_edges=None)
    calibrator.collect(torch.tensor([0.0, 1.0]))
    assert calibrator._calib_hist.sum() == 1
    assert calibrator._unsigned
