"""One tensor's quantizer: its range, its switches, its place in a checkpoint."""

from __future__ import annotations

import copy

import pytest
import torch

from yoloqat.config import MethodSpec, QuantScheme
from yoloqat.errors import CalibrationError, ConfigError
from yoloqat.quant import TensorQuantizer
from yoloqat.quant.calib import HistogramCalibrator, MaxCalibrator
from yoloqat.quant.functional import fake_quant, fake_quant_affine, reduce_amax

SCHEME = QuantScheme()
AFFINE = QuantScheme(symmetric=False)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def histogram_quantizer(scheme: QuantScheme = SCHEME) -> TensorQuantizer:
    return TensorQuantizer(scheme, name="location", calib_method="histogram", if_quant=False, if_calib=True)


def with_amax(value: torch.Tensor | float, scheme: QuantScheme = SCHEME, **arguments: object) -> TensorQuantizer:
    quantizer = TensorQuantizer(scheme, **arguments)
    quantizer.amax = value
    return quantizer


def test_without_an_amax_each_tensor_gives_its_own(x):
    quantizer = TensorQuantizer()
    assert quantizer.amax is None
    assert quantizer.qparams() is None
    for scale in (1.0, 10.0):
        assert torch.equal(quantizer(scale * x), fake_quant(scale * x, (scale * x).abs().max(), SCHEME))
    assert quantizer.amax is None


def test_dynamic_ranges_follow_the_axis(x):
    quantizer = TensorQuantizer(QuantScheme(axis=1))
    assert torch.equal(quantizer(x), fake_quant(x, reduce_amax(x, axis=1), QuantScheme(axis=1)))


def test_a_fixed_amax_is_used_for_every_tensor(x):
    quantizer = with_amax(0.5)
    assert torch.equal(quantizer(x), fake_quant(x, torch.tensor(0.5), SCHEME))
    quantizer.amax = torch.tensor(2.0, dtype=torch.float64)
    assert quantizer.amax.dtype == torch.float32
    assert torch.equal(quantizer(x), fake_quant(x, torch.tensor(2.0), SCHEME))
    quantizer.reset_amax()
    assert quantizer.amax is None
    quantizer.amax = 1
    quantizer.amax = None
    assert quantizer.amax is None


def test_setting_amax_copies_it():
    value = torch.tensor(1.0)
    quantizer = with_amax(value)
    value.fill_(5.0)
    assert quantizer.amax.item() == 1.0


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_an_amax_that_is_no_range_is_refused(value):
    quantizer = with_amax(1.0, name="location")
    with pytest.raises(CalibrationError, match=f"amax of 'location' is {value}"):
        quantizer.amax = torch.tensor([1.0, value, 2.0])
    assert quantizer.amax.item() == 1.0


def test_the_switches(x):
    quantizer = with_amax(0.5, disabled=True)
    assert quantizer(x) is x
    quantizer.enable()
    assert not torch.equal(quantizer(x), x)
    quantizer.disable_quant()
    assert quantizer(x) is x
    quantizer.enable_calib()
    quantizer(x)
    quantizer.disable()
    quantizer(100 * x)
    quantizer.enable()
    quantizer.disable_calib()
    quantizer(200 * x)
    quantizer.load_calib_amax()
    assert quantizer.amax == x.abs().max()
    quantizer.enable_quant()
    assert torch.equal(quantizer(x), fake_quant(x, x.abs().max(), SCHEME))


def test_calibration_by_histogram(x):
    quantizer = histogram_quantizer()
    quantizer(x)
    ranges = {}
    for method in ("entropy", "mse", "percentile", "max", None):
        quantizer.load_calib_amax(method, percentile=50)
        ranges[method] = quantizer.amax.item()
    assert ranges[None] == ranges["entropy"]
    assert ranges["percentile"] < ranges["mse"] <= ranges["max"] == x.abs().max()
    quantizer.load_calib_amax(MethodSpec("percentile", 90.0))
    assert ranges["percentile"] < quantizer.amax < ranges["max"]


def test_a_histogram_collected_elsewhere_gives_the_same_range(x):
    quantizer, other = histogram_quantizer(), histogram_quantizer()
    quantizer(x)
    quantizer.load_calib_amax("mse")
    other.load_histogram(quantizer._calibrator.histogram(), MethodSpec("mse"))
    assert other.amax == quantizer.amax


def test_asking_for_an_amax_before_any_data():
    for quantizer in (histogram_quantizer(), TensorQuantizer(name="location")):
        with pytest.raises(CalibrationError, match="quantizer 'location' collected nothing"):
            quantizer.load_calib_amax()
        assert quantizer.amax is None


def test_asking_maxima_for_another_method(x):
    quantizer = TensorQuantizer(name="location", if_calib=True)
    quantizer(x)
    with pytest.raises(CalibrationError, match="'location' was asked for 'mse' but collected only maxima"):
        quantizer.load_calib_amax("mse")
    quantizer.load_calib_amax(MethodSpec("max"))
    assert quantizer.amax == x.abs().max()


def test_asking_a_histogram_for_an_unknown_method(x):
    quantizer = histogram_quantizer()
    quantizer(x)
    with pytest.raises(ConfigError, match="calibration method is 'mean'"):
        quantizer.load_calib_amax("mean")


@pytest.mark.parametrize("method", ["max", "histogram"])
def test_the_site_is_named_with_what_it_met(method):
    quantizer = TensorQuantizer(name="model.0", calib_method=method, if_calib=True)
    with pytest.raises(CalibrationError, match=r"'model.0': a tensor to calibrate on holds NaN"):
        quantizer(torch.tensor([float("nan")]))


def test_an_affine_site_takes_what_it_saw(x):
    quantizer = histogram_quantizer(AFFINE)
    positive = x.abs() - 0.1
    quantizer(positive)
    quantizer.load_calib_amax("max")
    assert (quantizer.low, quantizer.amax) == (positive.min(), positive.max())
    quantizer.enable_quant()
    quantizer.disable_calib()
    assert torch.equal(quantizer(x), fake_quant_affine(x, positive.min(), positive.max(), AFFINE))
    quantizer.load_calib_amax("percentile", percentile=50)
    assert quantizer.low == positive.min()
    assert quantizer.amax < positive.max()
    histogram = quantizer._calibrator.histogram()
    other = histogram_quantizer(AFFINE)
    other.load_histogram(histogram, MethodSpec("percentile", 50))
    assert (other.low, other.amax) == (quantizer.low, quantizer.amax)
    other.reset_amax()
    assert (other.low, other.amax) == (None, None)


def test_an_affine_site_without_a_range_is_dynamic(x):
    quantizer = TensorQuantizer(AFFINE)
    assert torch.equal(quantizer(x), fake_quant_affine(x, x.min(), x.max(), AFFINE))
    assert quantizer.qparams() is None


@pytest.mark.parametrize("how", ["amax", "max calibrator"])
def test_an_affine_site_given_only_an_amax_is_not_dynamic(how, x):
    x = x.clamp(-2, 2)
    quantizer = TensorQuantizer(AFFINE)
    if how == "amax":
        quantizer.amax = 2.0
    if how == "max calibrator":
        quantizer.enable_calib()
        quantizer(torch.tensor([2.0]))
        quantizer.disable_calib()
        quantizer.load_calib_amax()
    assert torch.equal(quantizer(0.1 * x), fake_quant_affine(0.1 * x, torch.tensor(-2.0), torch.tensor(2.0), AFFINE))
    quantizer.amax = None
    assert quantizer.low is None


def test_an_affine_range_always_holds_zero():
    quantizer = TensorQuantizer(AFFINE)
    quantizer.set_range(1.0, 3.0)
    assert (quantizer.low, quantizer.amax) == (0.0, 3.0)
    quantizer.set_range(-3.0, -1.0)
    assert (quantizer.low, quantizer.amax) == (-3.0, 0.0)


@pytest.mark.parametrize(
    ("symmetric", "low", "high", "message"),
    [
        (True, -1.0, 1.0, r"range of 'location' is \[-1.0, 1.0\] with a symmetric scheme"),
        (False, 2.0, 1.0, r"range of 'location' is \[2.0, 1.0\] with an affine scheme"),
        (False, float("nan"), 1.0, r"range of 'location' is \[nan, 1.0\]"),
        (False, -float("inf"), 1.0, "low end of 'location' is inf"),
        (False, -1.0, float("inf"), "high end of 'location' is inf"),
    ],
)
def test_a_range_that_cannot_be_is_refused(symmetric, low, high, message):
    quantizer = TensorQuantizer(QuantScheme(symmetric=symmetric), name="location")
    with pytest.raises(CalibrationError, match=message):
        quantizer.set_range(low, high)
    assert (quantizer.low, quantizer.amax) == (None, None)


def test_the_grid_is_what_fake_quant_uses(x):
    quantizer = with_amax(2.0)
    step, zero_point = quantizer.qparams()
    assert zero_point == 0.0
    assert torch.allclose((x / step).round().clamp(-128, 127) * step, quantizer(x), atol=1e-6)
    affine = TensorQuantizer(AFFINE)
    affine.set_range(-1.0, 2.0)
    step, zero_point = affine.qparams()
    assert torch.allclose(((x / step).round() + zero_point).clamp(-128, 127) * step - zero_point * step, affine(x))


def test_the_grid_of_zeros_has_a_usable_step():
    quantizer = with_amax(torch.tensor([[0.0], [127.0]]), QuantScheme(axis=0))
    assert quantizer.qparams()[0].tolist() == [[1.0], [1.0]]


def test_a_tensor_of_zeros_stays_zero_in_an_engine():
    quantizer = with_amax(0.0)
    step, zero_point = quantizer.qparams()
    x = torch.tensor([-1000.0, 0.3, 1000.0])
    assert torch.equal(torch.round(x / step) + zero_point, torch.zeros(3))
    assert torch.equal(quantizer(x), torch.zeros(3))


def test_a_range_travels_in_the_state_dict(x):
    source = TensorQuantizer(AFFINE)
    source.set_range(-1.0, 2.0)
    for target in (
        TensorQuantizer(AFFINE),
        with_amax(torch.tensor([1.0, 2.0])),
    ):
        target.load_state_dict(source.state_dict())
        assert (target.low.item(), target.amax.item()) == (-1.0, 2.0)
    source.amax = 9.0
    assert target.amax == 2.0, "a loaded range is a copy"


def test_no_range_leaves_no_trace_in_the_state_dict():
    assert TensorQuantizer().state_dict() == {}
    TensorQuantizer().load_state_dict({})


def test_a_range_missing_from_the_state_dict_is_told():
    with pytest.raises(RuntimeError, match="_amax"):
        with_amax(1.0).load_state_dict({})


def test_a_copy_is_independent(x):
    quantizer = histogram_quantizer()
    with torch.inference_mode():
        quantizer(x)
    quantizer.load_calib_amax("max")
    twin = copy.deepcopy(quantizer)
    quantizer(100 * x)
    quantizer.amax = 7.0
    twin.load_calib_amax("max")
    assert twin.amax == x.abs().max()
    assert twin.name == "location"


def test_calibrated_in_inference_mode_it_trains_after(x):
    quantizer = TensorQuantizer(name="location", if_quant=False, if_calib=True)
    with torch.inference_mode():
        quantizer(x)
        quantizer.load_calib_amax()
    quantizer.enable_quant()
    leaf = x.clone().requires_grad_()
    quantizer(leaf).sum().backward()
    assert torch.equal(leaf.grad, torch.ones_like(x))


def test_it_describes_itself():
    quantizer = TensorQuantizer(QuantScheme(4, axis=1))
    assert "4 bits, axis=1, dynamic, quant=True, calib=False" in repr(quantizer)
    quantizer.amax = [[1.0, 2.5]]
    quantizer.disable()
    assert "amax=2.5, disabled" in repr(quantizer)


def test_a_one_sided_affine_range_is_searched_with_all_its_levels(monkeypatch):
    asked = []
    histogram = HistogramCalibrator(8)
    histogram.collect(torch.cat((torch.tensor([-0.27]), torch.rand(1000) * 8)))
    found = histogram.histogram()
    monkeypatch.setattr(type(found), "compute_amax", lambda self, method, **how: asked.append(how["unsigned"]) or 4.0)
    TensorQuantizer(AFFINE, calib_method="histogram").load_histogram(found, MethodSpec("mse"))
    TensorQuantizer().load_histogram(found, MethodSpec("mse"))
    assert asked == [True, False]


def test_the_defaults_are_nvidias():
    quantizer = TensorQuantizer()
    assert quantizer.scheme == QuantScheme() == QuantScheme(8, axis=None, unsigned=False, narrow_range=False)
    assert isinstance(quantizer._calibrator, MaxCalibrator)
    assert (quantizer.amax, quantizer.name) == (None, "")


@pytest.mark.parametrize(
    ("scheme", "calib_method", "message"),
    [
        (SCHEME, "mean", "calib_method is 'mean'"),
        (QuantScheme(axis=0), "histogram", "axis is 0 with calib_method='histogram'"),
        (QuantScheme(axis=1, symmetric=False), "max", "axis is 1 with calib_method='max' and symmetric=False"),
    ],
)
def test_a_calibrator_that_does_not_fit_the_scheme_is_refused(scheme, calib_method, message):
    with pytest.raises(ConfigError, match=message):
        TensorQuantizer(scheme, calib_method=calib_method)
