"""Descriptors take NVIDIA's arguments and answer by NVIDIA's names."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from yoloqat.compat.pytorch_quantization import tensor_quant
from yoloqat.compat.pytorch_quantization.tensor_quant import QuantDescriptor, ScaledQuantDescriptor
from yoloqat.errors import ConfigError


def test_the_defaults_are_nvidias():
    descriptor = QuantDescriptor()
    assert QuantDescriptor is ScaledQuantDescriptor
    assert (descriptor.num_bits, descriptor.name, descriptor.axis, descriptor.amax) == (8, None, None, None)
    assert (descriptor.fake_quant, descriptor.calib_method) == (True, "max")
    assert (descriptor.unsigned, descriptor.narrow_range, descriptor.learn_amax) == (False, False, False)
    assert descriptor.scale_amax is None
    assert descriptor.dict() == {"num_bits": 8, "name": None}


def test_the_predefined_descriptors_are_nvidias():
    per_channel = [name for name in tensor_quant.__all__ if name.endswith(("PER_CHANNEL", "PER_ROW"))]
    assert len(per_channel) == 7
    for name in per_channel:
        axis = 1 if "TRANSPOSE" in name else 0
        assert getattr(tensor_quant, name) == QuantDescriptor(num_bits=8, axis=axis)
    assert QuantDescriptor() == tensor_quant.QUANT_DESC_8BIT_PER_TENSOR
    assert QuantDescriptor(unsigned=True) == tensor_quant.QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR


@pytest.mark.parametrize("amax", [3.0, 3, [3.0], (3.0,), np.float64(3.0), np.array([3.0]), torch.tensor(3.0)])
def test_amax_may_be_any_kind_of_number(amax):
    descriptor = QuantDescriptor(amax=amax)
    assert descriptor.amax.dtype == np.float32
    assert float(descriptor.amax.squeeze()) == 3.0


@pytest.mark.parametrize(
    "descriptor",
    [
        QuantDescriptor(6, "x", axis=(1,), amax=[0.5, 2.0], narrow_range=True),
        QuantDescriptor(8, calib_method="histogram", unsigned=True, scale_amax=0.9),
        QuantDescriptor(learn_amax=True, fake_quant=False),
        QuantDescriptor((4, 3), axis=(0, 2)),
    ],
    ids=repr,
)
def test_yaml_and_dict_and_copies_give_an_equal_descriptor(descriptor: QuantDescriptor):
    assert QuantDescriptor.from_yaml(descriptor.to_yaml()) == descriptor
    assert QuantDescriptor(**descriptor.dict()) == descriptor
    assert copy.deepcopy(descriptor) == descriptor
    assert descriptor != QuantDescriptor()


def test_nvidias_yaml_writes_the_axis_as_a_list():
    assert QuantDescriptor.from_yaml("num_bits: 8\nname: null\naxis: [0]\n") == QuantDescriptor(axis=(0,))
    assert QuantDescriptor(axis=(0, 2)).axis == (0, 2) == QuantDescriptor(axis=[0, 2]).axis


def test_no_sign_and_a_narrow_range_is_no_sign():
    descriptor = QuantDescriptor(unsigned=True, narrow_range=True)
    assert descriptor.unsigned
    assert not descriptor.narrow_range


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"bits": 8}, TypeError, "argument 'bits' is unknown"),
        ({"name": 7}, TypeError, "name is 7"),
        ({"axis": 0, "learn_amax": True}, TypeError, "axis is 0 with learn_amax=True"),
        ({"amax": "3"}, TypeError, "amax is '3'"),
        ({"amax": True}, TypeError, "amax is True"),
        ({"amax": ["x"]}, TypeError, r"amax is \['x'\]"),
        ({"axis": "0"}, TypeError, "axis is '0'"),
        ({"axis": (0, None)}, TypeError, r"axis is \(0, None\)"),
        ({"scale_amax": "0.9"}, TypeError, "scale_amax is '0.9'"),
        ({"num_bits": (5, 2)}, TypeError, r"num_bits is \(5, 2\)"),
        ({"num_bits": "8"}, TypeError, "num_bits is '8'"),
        ({"num_bits": True}, TypeError, "num_bits is True"),
        ({"num_bits": -1}, ValueError, "num_bits is -1"),
        ({"num_bits": 17}, ValueError, "num_bits is 17"),
        ({"calib_method": "entropy"}, ValueError, "calib_method is 'entropy'"),
    ],
)
def test_mistakes_are_named(arguments, kind, message):
    with pytest.raises(ConfigError, match=message) as caught:
        QuantDescriptor(**arguments)
    assert isinstance(caught.value, kind)


def test_descriptors_are_not_hashable():
    with pytest.raises(TypeError, match="unhashable type: 'ScaledQuantDescriptor'"):
        hash(QuantDescriptor())


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("[1", ValueError, r"the text of a descriptor is '\[1'"),
        ("8", TypeError, "the text of a descriptor is '8'"),
        ("{1: 2}", TypeError, "the text of a descriptor is '{1: 2}'"),
    ],
)
def test_yaml_that_is_no_descriptor(text, kind, message):
    with pytest.raises(ConfigError, match=message) as caught:
        QuantDescriptor.from_yaml(text)
    assert isinstance(caught.value, kind)
