"""TensorQuantizer: NVIDIA's arguments, properties and stages."""

from __future__ import annotations

import copy
import logging
import math

import numpy as np
import pytest
import torch

from yoloqat.compat.pytorch_quantization import calib
from yoloqat.compat.pytorch_quantization.nn import TensorQuantizer
from yoloqat.compat.pytorch_quantization.quant_modules import enable_onnx_export
from yoloqat.compat.pytorch_quantization.tensor_quant import (
    QuantDescriptor,
    fake_tensor_quant,
    scaled_e4m3,
    tensor_quant,
)
from yoloqat.errors import CalibrationError


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


def test_the_default_is_8_bits_dynamic_and_calibrated_by_max(x: torch.Tensor):
    quantizer = TensorQuantizer()
    assert isinstance(quantizer._calibrator, calib.MaxCalibrator)
    assert torch.equal(quantizer(x), fake_tensor_quant(x, x.abs().max(), 8, False, False))
    assert quantizer.amax is None
    assert quantizer.step_size is None


def test_all_arguments_may_be_positional(x: torch.Tensor):
    quantizer = TensorQuantizer(QuantDescriptor(calib_method="histogram"), False, False, False, True)
    assert torch.equal(quantizer(x), x)
    assert int(quantizer._calibrator._calib_hist.sum()) == x.numel()
    assert TensorQuantizer(QuantDescriptor(), True)(x) is x


def test_hasattr_tells_a_dynamic_range_from_a_known_one():
    quantizer = TensorQuantizer()
    assert not hasattr(quantizer, "_amax")
    with pytest.raises(AttributeError, match="quantizer 'x' has no _amax yet"):
        TensorQuantizer(QuantDescriptor(name="x"))._amax  # noqa: B018
    quantizer.amax = 2.0
    assert hasattr(quantizer, "_amax")
    assert quantizer._amax is quantizer.amax
    assert "_amax" in quantizer.state_dict()
    del quantizer._amax
    assert not hasattr(quantizer, "_amax")
    quantizer.amax = 3.0
    assert quantizer.state_dict()["_amax"] == 3.0
    quantizer.note = 1
    del quantizer.note
    assert not hasattr(quantizer, "note")


@pytest.mark.parametrize("amax", [2.5, [2.5, 1.0], np.float32(2.5), np.array([[2.5], [1.0]]), torch.tensor(2.5)])
def test_amax_may_be_set_by_any_kind_of_number(amax):
    quantizer = TensorQuantizer()
    quantizer.amax = amax
    assert quantizer.amax.dtype == torch.float32
    assert quantizer.amax.tolist() == np.asarray(amax).tolist()


def test_properties_answer_under_both_names(x: torch.Tensor):
    quantizer = TensorQuantizer(QuantDescriptor(8, axis=0, amax=np.ones((4, 1))))
    assert (quantizer.num_bits, quantizer._num_bits) == (8, 8)
    assert (quantizer.axis, quantizer._axis) == (0, 0)
    assert (quantizer.unsigned, quantizer._unsigned) == (False, False)
    assert (quantizer.narrow_range, quantizer._narrow_range) == (False, False)
    assert (quantizer.fake_quant, quantizer._fake_quant, quantizer.scale) == (True, True, 1.0)
    assert torch.allclose(quantizer.step_size, torch.full((4, 1), 1 / 127))
    quantizer.narrow_range = True
    assert torch.equal(quantizer(x), fake_tensor_quant(x, quantizer.amax))
    quantizer.num_bits = 4
    assert torch.equal(quantizer(x), fake_tensor_quant(x, quantizer.amax, 4))
    quantizer.unsigned = True
    assert not quantizer.narrow_range
    assert torch.equal(quantizer(x.abs()), fake_tensor_quant(x.abs(), quantizer.amax, 4, True))


def test_integers_are_returned_without_fake_quant(x: torch.Tensor):
    quantizer = TensorQuantizer(QuantDescriptor(fake_quant=False, amax=1.0))
    assert quantizer.scale is None
    integers, scale = tensor_quant(x, torch.tensor(1.0), 8, False, False)
    assert torch.equal(quantizer(x), integers)
    assert torch.equal(quantizer.scale, scale)


def test_amax_is_scaled_at_use_alone(x: torch.Tensor):
    quantizer = TensorQuantizer(QuantDescriptor(amax=0.5, scale_amax=0.9))
    expected = fake_tensor_quant(x, torch.tensor(0.5) * 0.9, 8, False, False)
    assert torch.equal(quantizer(x), expected)
    assert torch.equal(quantizer(x), expected)
    assert quantizer.amax == 0.5


def test_a_learned_range_begins_at_amax_and_takes_the_gradient_of_what_it_clips(x: torch.Tensor):
    quantizer = TensorQuantizer(QuantDescriptor(amax=0.5, learn_amax=True))
    quantized = quantizer(x)
    assert torch.equal(quantized, fake_tensor_quant(x.clamp(-0.5, 0.5), torch.tensor(0.5), 8, False, False))
    quantized.sum().backward()
    assert float(quantizer.clip.clip_value_max.grad) == int((x >= 0.5).sum())
    assert float(quantizer.clip.clip_value_min.grad) == int((x <= -0.5).sum())
    quantizer.amax = 2.0
    quantizer.init_learn_amax()
    assert (quantizer.clip.clip_value_min.item(), quantizer.clip.clip_value_max.item()) == (-2.0, 2.0)
    quantizer.disable_clip()
    assert not quantizer._if_clip
    assert not quantizer.clip.clip_value_max.requires_grad


def test_clipping_alone(x: torch.Tensor):
    quantizer = TensorQuantizer(QuantDescriptor(amax=0.5, learn_amax=True), if_quant=False, if_clip=True)
    assert torch.equal(quantizer(x), x.clamp(-0.5, 0.5))
    plain = TensorQuantizer()
    plain.disable_clip()
    with pytest.raises(ValueError, match="learn_amax is False"):
        plain.enable_clip()
    with pytest.raises(RuntimeError, match="learn_amax is False and amax is None"):
        plain.init_learn_amax()


def test_max_and_histogram_calibration(x: torch.Tensor):
    quantizer = TensorQuantizer(QuantDescriptor(axis=0), if_quant=False, if_calib=True)
    quantizer(x)
    quantizer.load_calib_amax()
    assert torch.equal(quantizer.amax, x.abs().amax(dim=1, keepdim=True))
    histogram = TensorQuantizer(QuantDescriptor(calib_method="histogram"), if_quant=False, if_calib=True)
    histogram(x)
    histogram.load_calib_amax("entropy", stride=2, start_bin=64)
    assert histogram.amax == histogram._calibrator.compute_amax("entropy", stride=2, start_bin=64)
    histogram.load_calib_amax(method="percentile", percentile=60.0)
    assert x.abs().quantile(0.5) < histogram.amax < x.abs().quantile(0.7)


def test_nothing_collected_is_an_error_or_nan(caplog: pytest.LogCaptureFixture):
    quantizer = TensorQuantizer(QuantDescriptor(name="stem"))
    with pytest.raises(RuntimeError, match="quantizer 'stem' collected nothing; expected at least one batch") as caught:
        quantizer.load_calib_amax()
    assert isinstance(caught.value, CalibrationError)
    with caplog.at_level(logging.WARNING, "pytorch_quantization"):
        quantizer.load_calib_amax(strict=False)
    assert math.isnan(quantizer._amax)
    assert caplog.messages == ["quantizer 'stem' collected nothing; its amax is NaN"]


def test_a_calibrator_that_was_taken_away_is_missed():
    quantizer = TensorQuantizer(QuantDescriptor(name="stem"))
    quantizer._calibrator = None
    with pytest.raises(ValueError, match="the calibrator of quantizer 'stem' is None"):
        quantizer.enable_calib()
    with pytest.raises(RuntimeError, match="quantizer 'stem' collected nothing"):
        quantizer.load_calib_amax()


def test_nan_is_refused_with_the_quantizers_name():
    quantizer = TensorQuantizer(QuantDescriptor(name="stem"), if_calib=True)
    with pytest.raises(CalibrationError, match="'stem': a tensor to calibrate on holds NaN"):
        quantizer(torch.tensor([float("nan")]))


def test_a_state_dict_makes_the_range_on_the_cpu_and_copies_keep_everything():
    source = TensorQuantizer(QuantDescriptor(axis=0, amax=np.ones((4, 1))))
    target = TensorQuantizer(QuantDescriptor(axis=0))
    target.load_state_dict(source.state_dict())
    assert torch.equal(target.amax, source.amax)
    assert target.amax.device.type == "cpu"
    twin = copy.deepcopy(source)
    assert twin.scheme == source.scheme
    assert torch.equal(twin.amax, source.amax)


def test_the_range_is_a_buffer_that_moves_with_its_module():
    quantizer = TensorQuantizer(QuantDescriptor(amax=1.5))
    quantizer._amax = quantizer._amax.to("cpu")  # as scripts do with their device
    assert quantizer.half().amax.dtype == torch.half
    assert dict(quantizer.named_buffers()).keys() == {"_amax"}


@pytest.mark.parametrize("axis", [(0, 1), [0, 1], (0, -2)])
def test_several_axes_have_an_amax_each(axis):
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    amax = x.abs().amax(dim=2, keepdim=True)
    quantizer = TensorQuantizer(QuantDescriptor(axis=axis), if_calib=True)
    assert quantizer.axis == quantizer._axis == tuple(axis)
    expected = fake_tensor_quant(x, amax, 8, False, False)
    assert torch.equal(quantizer(x), expected)  # the dynamic range
    quantizer.load_calib_amax()
    assert torch.equal(quantizer.amax, amax)
    assert torch.equal(quantizer(x), expected)
    other = TensorQuantizer(QuantDescriptor(axis=axis))
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(copy.deepcopy(other)(x), expected)


def test_a_factor_on_the_input_comes_first_even_where_nothing_is_quantized():
    x = torch.tensor([[0.0, 0.4, 1.1, 2.0]])
    quantizer = TensorQuantizer(QuantDescriptor(axis=1, amax=127.0))
    assert quantizer.pre_quant_scale is None
    assert not hasattr(quantizer, "_pre_quant_scale")
    quantizer.pre_quant_scale = 2.0
    assert quantizer(x).tolist() == [[0.0, 1.0, 2.0, 4.0]]
    assert quantizer(x.half()).dtype == torch.half
    quantizer.pre_quant_scale = 3
    assert quantizer(x).tolist() == [[0.0, 1.0, 3.0, 6.0]]
    quantizer.disable()
    assert torch.equal(quantizer(x), x * 3)
    quantizer.pre_quant_scale = None
    assert torch.equal(quantizer(x), x)
    quantizer.pre_quant_scale = [[1.0, 2.0, 3.0, 4.0]]
    other = TensorQuantizer(QuantDescriptor(axis=1))
    other.load_state_dict(quantizer.state_dict())
    assert other(x).tolist() == [[0.0, 1.0, 3.0, 8.0]]
    other.pre_quant_scale = torch.ones(1, 4)
    assert quantizer.pre_quant_scale.tolist() == [[1.0, 2.0, 3.0, 4.0]]


def test_fp8_is_rounded_to_what_amax_scales_to_448(x: torch.Tensor):
    for axis in (None, 0):
        quantizer = TensorQuantizer(QuantDescriptor((4, 3), axis=axis))
        amax = x.abs().max() if axis is None else x.abs().amax(dim=1, keepdim=True)
        assert torch.equal(quantizer(x), scaled_e4m3(x, amax))
        assert (quantizer.num_bits, quantizer.maxbound) == ((4, 3), 448.0)
    quantizer.amax = amax
    assert torch.equal(quantizer.step_size, amax / 448)
    quantizer.num_bits = 4
    assert (quantizer.num_bits, quantizer.scheme.bits, quantizer.maxbound) == (4, 4, 7)


def test_a_range_takes_no_gradient_of_its_own(x: torch.Tensor):
    quantizer = TensorQuantizer(QuantDescriptor(amax=0.5))
    quantizer.amax.requires_grad_()
    inputs = x.clone().requires_grad_()
    quantizer(inputs).sum().backward()
    assert quantizer.amax.grad is None
    assert torch.equal(inputs.grad, (x.abs() <= 0.5).float())


def test_what_no_engine_has_is_not_handed_to_the_core():
    several = TensorQuantizer(QuantDescriptor(name="x", axis=(0, 1), amax=np.ones((2, 3))))
    with pytest.raises(CalibrationError, match=r"axis of quantizer 'x' is \(0, 1\)"):
        several.qparams()
    eight = TensorQuantizer(QuantDescriptor((4, 3), "x", amax=1.0))
    with pytest.raises(CalibrationError, match=r"num_bits of quantizer 'x' is \(4, 3\)"):
        eight.qparams()
    for setting in ({"fake_quant": False}, {"learn_amax": True}, {"scale_amax": 0.9}):
        ((name, value),) = setting.items()
        with pytest.raises(CalibrationError, match=f"{name} of quantizer 'x' is {value}"):
            TensorQuantizer(QuantDescriptor(name="x", amax=1.0, **setting)).qparams()
    scaled = TensorQuantizer(QuantDescriptor(name="x", amax=1.0))
    assert scaled.qparams()[0] == pytest.approx(1 / 127)
    scaled.pre_quant_scale = 2.0
    with pytest.raises(CalibrationError, match="pre_quant_scale of quantizer 'x' is set"):
        scaled.qparams()


def test_an_export_needs_a_range():
    quantizer = TensorQuantizer(QuantDescriptor(name="x"))
    with enable_onnx_export(), pytest.raises(RuntimeError, match="quantizer 'x' has no amax in an export"):
        quantizer(torch.ones(3))
    quantizer.disable()
    with enable_onnx_export():
        assert quantizer(torch.ones(3)).tolist() == [1.0] * 3
    fp8 = TensorQuantizer(QuantDescriptor((4, 3), "x", amax=1.0))
    with enable_onnx_export(), pytest.raises(RuntimeError, match=r"num_bits of quantizer 'x' is \(4, 3\) in an export"):
        fp8(torch.ones(3))


def test_mistakes_are_named():
    with pytest.raises(TypeError, match="quant_desc is 8"):
        TensorQuantizer(8)
    quantizer = TensorQuantizer(QuantDescriptor(name="x", amax=1.0))
    with pytest.raises(RuntimeError, match=r"amax of 'x' is to have shape \(2,\); expected .*\(\)"):
        quantizer.amax = [1.0, 2.0]
    for value in ("1", object()):
        with pytest.raises(TypeError, match=r"amax is ('1'|<object)"):
            quantizer.amax = value
        with pytest.raises(TypeError, match=r"amax is ('1'|<object)"):
            quantizer.pre_quant_scale = value
    with pytest.raises(RuntimeError, match="amax of 'x' is -1"):
        quantizer.amax = -1.0
    quantizer.pre_quant_scale = 2.0
    with pytest.raises(RuntimeError, match=r"pre_quant_scale of 'x' is to have shape \(1, 2\)"):
        quantizer.pre_quant_scale = [[1.0, 2.0]]
    for value, kind in (("8", TypeError), (0, ValueError), ((5, 2), TypeError)):
        with pytest.raises(kind, match="num_bits is "):
            quantizer.num_bits = value
    assert quantizer.num_bits == 8
    with pytest.raises(RuntimeError, match=r"the channel axis is 3 and a tensor has shape \(2, 2\)"):
        TensorQuantizer(QuantDescriptor(axis=3))(torch.ones(2, 2))
