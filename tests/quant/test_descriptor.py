"""What a quantizer is told when it is made."""

from __future__ import annotations

import pytest
import torch

from yoloqat.config import QuantScheme
from yoloqat.errors import ConfigError
from yoloqat.quant import QuantDescriptor


def test_the_defaults_are_nvidias():
    descriptor = QuantDescriptor()
    assert descriptor.scheme == QuantScheme()
    assert (descriptor.num_bits, descriptor.axis, descriptor.calib_method) == (8, None, "max")
    assert (descriptor.unsigned, descriptor.narrow_range, descriptor.fake_quant) == (False, False, True)
    assert descriptor.amax is None
    assert descriptor.name is None


def test_the_arguments_reach_the_scheme():
    descriptor = QuantDescriptor(4, "site", axis=(1,), amax=[1.0, 2.0], narrow_range=True)
    assert descriptor.scheme == QuantScheme(bits=4, axis=1, narrow_range=True)
    assert descriptor.amax.dtype == torch.float32
    assert "name='site'" in repr(descriptor)
    assert QuantDescriptor(unsigned=True, calib_method="histogram").unsigned
    assert not QuantDescriptor(symmetric=False).scheme.symmetric


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fake_quant": False}, "fake_quant is False"),
        ({"calib_method": "mean"}, "calib_method is 'mean'"),
        ({"axis": (0, 1)}, r"axis is \(0, 1\)"),
        ({"axis": ()}, r"axis is \(\)"),
        ({"axis": -1}, "axis is -1"),
        ({"num_bits": 1}, "bits is 1"),
        ({"num_bits": 8.0}, "bits is 8.0"),
        ({"unsigned": True, "narrow_range": True}, "narrow_range is True"),
        ({"axis": 0, "calib_method": "histogram"}, "axis is 0 with calib_method='histogram'"),
        ({"axis": 1, "symmetric": False}, "axis is 1 with calib_method='max' and symmetric=False"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        QuantDescriptor(**arguments)


def test_a_scheme_makes_a_descriptor():
    scheme = QuantScheme(bits=6, unsigned=True)
    descriptor = QuantDescriptor.from_scheme(scheme, name="x")
    assert (descriptor.scheme, descriptor.name, descriptor.calib_method) == (scheme, "x", "histogram")
    assert QuantDescriptor.from_scheme(QuantScheme(axis=1)).calib_method == "max"
    with pytest.raises(ConfigError, match="calib_method is 'none'"):
        QuantDescriptor.from_scheme(scheme, calib_method="none")
