"""Calibrators: the core's collection under NVIDIA's names, NVIDIA's searches on whatever histogram they hold."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yoloqat.compat.pytorch_quantization.calib import HistogramCalibrator, MaxCalibrator
from yoloqat.errors import CalibrationError, ConfigError
from yoloqat.quant.calib import HistogramCalibrator as CoreHistogramCalibrator

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "nvidia_pytorch_quantization"
CASES = json.loads(GOLDEN.with_suffix(".json").read_text(encoding="utf-8"))["calibration"]


def _arguments(key: str) -> dict[str, Any] | None:
    """Read 'mse/stride=4/start_bin=256' or 'percentile=99.9' as arguments of compute_amax."""
    if key.startswith("percentile="):
        return {"method": "percentile", "percentile": float(key.removeprefix("percentile="))}
    found = re.fullmatch(r"(\w+)/stride=(\d+)/start_bin=(\d+)", key)
    return found and {"method": found[1], "stride": int(found[2]), "start_bin": int(found[3])}


@pytest.fixture
def filled() -> HistogramCalibrator:
    calibrator = HistogramCalibrator(8, None, False)
    calibrator.collect(torch.randn(4000, generator=torch.Generator().manual_seed(0)))
    return calibrator


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, lambda array: torch.from_numpy(array).float()])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_histogram_that_is_set_gives_nvidias_amax(case: dict[str, Any], kind):
    calibrator = HistogramCalibrator(8, None, case["name"] == "relu")
    with np.load(GOLDEN.with_suffix(".npz")) as arrays:
        calibrator._calib_hist = kind(arrays[f"{case['name']}/hist"])
        calibrator._calib_bin_edges = torch.from_numpy(arrays[f"{case['name']}/edges"])
    calls = {key: _arguments(key) for key in case["amax"] if key != "max"}
    before = calibrator._calib_hist.clone()
    found = {key: float(calibrator.compute_amax(**arguments)) for key, arguments in calls.items()}
    assert found == pytest.approx({key: case["amax"][key] for key in calls}, rel=1e-5, abs=0.0)
    assert torch.equal(calibrator._calib_hist, before)


def test_the_histogram_answers_with_tensors_or_arrays(filled: HistogramCalibrator):
    assert isinstance(filled._calib_hist, torch.Tensor)
    assert filled._calib_hist.dtype == torch.int64
    filled._torch_hist = False
    assert isinstance(filled._calib_hist, np.ndarray)
    assert filled._calib_hist.sum() == 4000
    assert len(filled._calib_bin_edges) == len(filled._calib_hist) + 1
    assert 2048 <= len(filled._calib_hist) <= 4096


def test_what_is_collected_is_the_cores(filled: HistogramCalibrator):
    core = CoreHistogramCalibrator(num_bins=4096)
    core.collect(torch.randn(4000, generator=torch.Generator().manual_seed(0)))
    assert filled._calib_hist.tolist() == core.histogram().counts.tolist()


def test_nothing_collected_gives_no_amax(filled: HistogramCalibrator):
    filled._calib_hist = None  # how scripts reset
    assert filled._calib_bin_edges is None
    assert filled.compute_amax("mse") is None
    assert HistogramCalibrator(8, None, False).compute_amax("entropy") is None
    filled.collect(torch.ones(3))
    filled._calib_bin_edges = None
    assert filled._calib_hist is None


def test_amax_is_at_most_the_maximum_and_erases_nothing():
    calibrator = HistogramCalibrator(8, None, False)
    calibrator.collect(torch.cat([torch.zeros(100000), torch.tensor([5.0])]))
    assert float(calibrator.compute_amax("percentile", percentile=99.0)) == pytest.approx(
        float(calibrator._calib_bin_edges[1])
    )
    assert float(calibrator.compute_amax("entropy")) <= 5.0
    zeros = HistogramCalibrator(8, None, False)
    zeros.collect(torch.zeros(10))
    assert [float(zeros.compute_amax(method)) for method in ("entropy", "mse", "percentile")] == [0.0] * 3


def test_zeros_can_be_left_out():
    calibrator = HistogramCalibrator(8, None, False, 2048, None, True)
    calibrator.collect(torch.zeros(5))
    assert calibrator._calib_hist is None
    calibrator.collect(torch.tensor([0.0, -1.0, 2.0]))
    assert int(calibrator._calib_hist.sum()) == 2


def test_the_old_way_to_grow_is_named_and_ignored(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "pytorch_quantization"):
        HistogramCalibrator(8, None, False, grow_method="append")
    assert caplog.messages == ["grow_method is deprecated; 'append' is ignored"]


def test_mistakes_are_named(filled: HistogramCalibrator):
    with pytest.raises(ValueError, match="axis is 0 for a histogram"):
        HistogramCalibrator(8, 0, False)
    with pytest.raises(ConfigError, match="num_bins is 100"):
        HistogramCalibrator(8, None, False, 100)
    with pytest.raises(TypeError, match="calibration method is 'max'"):
        filled.compute_amax("max")
    with pytest.raises(ValueError, match="percentile is 101"):
        filled.compute_amax("percentile", percentile=101)
    with pytest.raises(CalibrationError, match="holds NaN"):
        filled.collect(torch.tensor([1.0, float("nan")]))
    filled._calib_hist = [1, 2, 3]
    with pytest.raises(RuntimeError, match=r"lengths \[3, None\]"):
        filled.compute_amax("entropy")
    filled._calib_bin_edges = [0.0, 1.0, 2.0]
    with pytest.raises(RuntimeError, match=r"lengths \[3, 3\]"):
        filled.compute_amax("entropy")
    with pytest.raises(RuntimeError, match="a histogram of 3 bins was set"):
        filled.collect(torch.ones(2))
    filled.reset()
    filled.collect(torch.ones(2))
    assert int(filled._calib_hist.sum()) == 2


def test_max_keeps_the_maximum_of_each_channel_and_of_each_batch():
    calibrator = MaxCalibrator(8, (1,), False, True)
    assert calibrator.compute_amax() is None
    calibrator.collect(torch.tensor([[1.0, -2.0], [0.5, 1.0]]))
    calibrator.collect(torch.tensor([[-3.0, 0.0]]))
    assert calibrator.compute_amax().tolist() == [[3.0, 2.0]]
    assert [amax.tolist() for amax in calibrator.amaxs] == [[[1.0, 2.0]], [[3.0, 0.0]]]
    calibrator.reset()
    assert calibrator.compute_amax() is None


def test_a_single_maximum_has_no_axes():
    for axis, shape in ((None, (2, 3)), (0, (1, 16, 1, 1))):
        calibrator = MaxCalibrator(8, axis, False)
        calibrator.collect(torch.ones(shape))
        assert calibrator.compute_amax().shape == ()


def test_max_takes_one_axis():
    with pytest.raises(TypeError, match=r"axis is \(0, 1\)"):
        MaxCalibrator(8, (0, 1), False)
