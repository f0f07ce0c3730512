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
from hypothesis import given
from hypothesis import strategies as st

from yoloqat.compat.pytorch_quantization.calib import HistogramCalibrator, MaxCalibrator
from yoloqat.compat.pytorch_quantization.calib.calibrator import _Calibrator
from yoloqat.compat.pytorch_quantization.calib.histogram import MOST_BINS
from yoloqat.errors import CalibrationError, ConfigError

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
    before = torch.as_tensor(calibrator._calib_hist).clone()
    found = {key: float(calibrator.compute_amax(**arguments)) for key, arguments in calls.items()}
    assert found == pytest.approx({key: case["amax"][key] for key in calls}, rel=1e-5, abs=0.0)
    assert torch.equal(torch.as_tensor(calibrator._calib_hist), before)


def test_the_histogram_answers_with_tensors_or_arrays(filled: HistogramCalibrator):
    assert isinstance(filled._calib_hist, torch.Tensor)
    assert filled._calib_hist.dtype == torch.int64
    arrays = HistogramCalibrator(8, None, False, torch_hist=False)
    arrays.collect(torch.randn(4000, generator=torch.Generator().manual_seed(0)))
    assert isinstance(arrays._calib_hist, np.ndarray)
    assert isinstance(arrays._calib_bin_edges, np.ndarray)
    assert arrays._calib_hist.tolist() == filled._calib_hist.tolist()
    assert arrays._calib_hist.sum() == 4000
    assert len(arrays._calib_bin_edges) == len(arrays._calib_hist) + 1 == 2049
    assert "4000 values" in repr(arrays)


@pytest.mark.parametrize("torch_hist", [True, False])
@pytest.mark.parametrize("name", ["gauss", "relu", "silu_like", "heavy_tail", "growing", "outlier"])
def test_what_is_collected_and_found_is_nvidias_to_the_last_bit(name: str, torch_hist: bool):
    calibrator = HistogramCalibrator(8, None, name == "relu", torch_hist=torch_hist)
    with np.load(GOLDEN.with_suffix(".npz")) as arrays:
        for batch in sorted(key for key in arrays.files if key.startswith(f"{name}/input")):
            calibrator.collect(torch.from_numpy(arrays[batch]))
        assert np.array_equal(calibrator._calib_hist, arrays[f"{name}/hist"])
        assert np.array_equal(calibrator._calib_bin_edges, arrays[f"{name}/edges"])
    expected = next(case["amax"] for case in CASES if case["name"] == name)
    calls = {key: _arguments(key) for key in expected if key != "max"}
    assert len(calls) >= 7
    found = {key: float(calibrator.compute_amax(**arguments)) for key, arguments in calls.items()}
    assert found == {key: expected[key] for key in calls}


def test_more_than_float32_counts_is_counted():
    calibrator = HistogramCalibrator(8, None, False, num_bins=4)
    calibrator.collect(torch.full((1,), 2.0).expand((1 << 24) + 3))
    assert calibrator._calib_hist.tolist() == [0, 0, 0, (1 << 24) + 3]


def test_a_batch_of_zeros_sets_no_width():
    calibrator = HistogramCalibrator(8, None, False, num_bins=4)
    calibrator.collect(torch.zeros(3))
    calibrator.collect(torch.zeros(2))
    calibrator.collect(torch.tensor([0.5, 4.0, 5.0]))
    assert calibrator._calib_hist.tolist() == [6, 0, 0, 2]
    assert calibrator._calib_bin_edges.tolist() == [0.0, 1.25, 2.5, 3.75, 5.0]


def test_bins_are_joined_before_they_are_too_many():
    calibrator = HistogramCalibrator(8, None, False, num_bins=3)
    calibrator.collect(torch.tensor([1e-6, 3e-6]))
    calibrator.collect(torch.tensor([0.25, 1.0]))
    bins = len(calibrator._calib_hist)
    assert MOST_BINS // 2 <= bins <= MOST_BINS
    width = float(calibrator._calib_bin_edges[1])
    assert width == pytest.approx(1e-6 * 8)
    filled = calibrator._calib_hist.nonzero().flatten().tolist()
    assert filled == [0, int(0.25 / width), bins - 1]
    assert calibrator._calib_hist[0] == 2
    assert calibrator._calib_bin_edges[-1] >= 1.0


@given(st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=9), min_size=1, max_size=5))
def test_every_value_is_counted_whatever_the_batches(batches: list[list[float]]):
    calibrator = HistogramCalibrator(8, None, False, num_bins=7)
    for batch in batches:
        calibrator.collect(torch.tensor(batch))
    values = np.abs(np.concatenate([np.float32(batch) for batch in batches]))
    assert int(calibrator._calib_hist.sum()) == len(values)
    assert float(calibrator._calib_bin_edges[-1]) >= values.max()
    assert len(calibrator._calib_bin_edges) == len(calibrator._calib_hist) + 1


def test_nothing_collected_gives_no_amax(filled: HistogramCalibrator):
    filled._calib_hist = None  # how scripts reset
    assert filled.compute_amax("mse") is None
    assert HistogramCalibrator(8, None, False).compute_amax("entropy") is None
    filled.collect(torch.ones(3))
    assert int(filled._calib_hist.sum()) == 3
    filled._calib_bin_edges = None
    assert filled.compute_amax("mse") is None


def test_amax_erases_nothing():
    calibrator = HistogramCalibrator(8, None, False)
    calibrator.collect(torch.cat([torch.zeros(100000), torch.tensor([5.0])]))
    assert float(calibrator.compute_amax("percentile", percentile=99.0)) == pytest.approx(
        float(calibrator._calib_bin_edges[1])
    )
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
    with pytest.raises(ConfigError, match="axis is 0 for a histogram"):
        HistogramCalibrator(8, 0, False)
    with pytest.raises(NotImplementedError, match=r"axis is \(0, 1\) for a histogram"):
        HistogramCalibrator(8, (0, 1), False)
    for bins in (0, MOST_BINS + 1, "many"):
        with pytest.raises(ValueError, match=f"num_bins is {bins!r}"):
            HistogramCalibrator(8, None, False, bins)
    with pytest.raises(ValueError, match="stride is 0"):
        filled.compute_amax("mse", stride=0)
    with pytest.raises(ValueError, match="start_bin is -1"):
        filled.compute_amax("mse", start_bin=-1)
    with pytest.raises(TypeError, match=r"num_bits is \(4, 3\) with method 'entropy'"):
        HistogramCalibrator((4, 3)).compute_amax("entropy")
    with pytest.raises(TypeError, match="calibration method is 'max'"):
        filled.compute_amax("max")
    with pytest.raises(ValueError, match="percentile is 101"):
        filled.compute_amax("percentile", percentile=101)
    for value, name in ((float("nan"), "NaN"), (float("inf"), "Inf")):
        with pytest.raises(RuntimeError, match=f"holds {name}") as caught:
            filled.collect(torch.tensor([1.0, value]))
        assert isinstance(caught.value, CalibrationError)
    with pytest.raises(RuntimeError, match=r"has shape \(0,\)"):
        filled.collect(torch.zeros(0))
    filled._calib_hist = [1, 2, 3]
    filled._calib_bin_edges = [0.0, 1.0, 2.0]
    for call in (lambda: filled.compute_amax("entropy"), lambda: filled.collect(torch.ones(2))):
        with pytest.raises(RuntimeError, match="lengths 3 and 3"):
            call()
    filled._calib_bin_edges = [0.0, 1.0, 2.0, 3.0]
    filled.collect(torch.tensor([0.5, 3.5]))  # as in NVIDIA's class, also onto what was set
    assert filled._calib_hist.tolist() == [2, 2, 3, 1]
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


@pytest.mark.parametrize("axis", [(0, 2), [0, 2], (0, -1)])
def test_max_keeps_several_axes(axis):
    calibrator = MaxCalibrator(8, axis, False)
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    calibrator.collect(x)
    calibrator.collect(x * 0.5)
    assert torch.equal(calibrator.compute_amax(), x.abs().amax(dim=1, keepdim=True))


def test_what_does_not_fit_a_maximum_is_a_runtime_error():
    calibrator = MaxCalibrator(8, 0, False)
    calibrator.collect(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match=r"amax has shape \(3, 1\); expected .*\(2, 1\)") as caught:
        calibrator.collect(torch.ones(3, 3))
    assert isinstance(caught.value, CalibrationError)
    with pytest.raises(RuntimeError, match="holds NaN"):
        calibrator.collect(torch.full((2, 3), float("nan")))
    with pytest.raises(RuntimeError, match=r"the channel axis is \(0, 4\)"):
        MaxCalibrator(8, (0, 4), False).collect(torch.ones(2, 3))


def test_calibrators_of_ones_own():
    class Mean(_Calibrator):
        pass

    assert all(issubclass(kind, _Calibrator) for kind in (HistogramCalibrator, MaxCalibrator))
    assert repr(Mean(8, None, False)) == "Mean(num_bits=8, axis=None, unsigned=False)"
    for call in (lambda own: own.collect(torch.ones(1)), lambda own: own.reset(), lambda own: own.compute_amax()):
        with pytest.raises(NotImplementedError):
            call(Mean(8, None, False))


@pytest.mark.parametrize("kind", [HistogramCalibrator, MaxCalibrator])
def test_what_inference_mode_collected_is_added_to_outside_it(kind):
    calibrator = kind(8, None, False)
    with torch.inference_mode():
        calibrator.collect(torch.tensor([1.0, -2.0]))
    calibrator.collect(torch.tensor([3.0], requires_grad=True))
    amax = calibrator.compute_amax(*(["percentile"] if kind is HistogramCalibrator else []))
    assert float(amax) == pytest.approx(3.0, rel=1e-3)
    assert not amax.requires_grad
