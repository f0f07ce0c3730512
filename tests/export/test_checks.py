from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yoloqat.config import QuantScheme
from yoloqat.errors import ExportError
from yoloqat.export.checks import check_activation, check_weight, zero_point_tensor
from yoloqat.quant import TensorQParams

GOOD = TensorQParams(QuantScheme(), np.array(0.1, dtype=np.float32), np.array(0))
WEIGHT = replace(GOOD, integers=np.zeros((2, 2, 1, 1), dtype=np.int64))


def test_good_numbers_pass():
    check_activation("a._input_quantizer", GOOD)
    check_weight("a", WEIGHT)


@pytest.mark.parametrize(
    ("edge", "qparams", "told"),
    [
        ("quantizer", replace(GOOD, scheme=QuantScheme(bits=6)), "quantizer 'm.a' has 6 bits"),
        ("weight", replace(WEIGHT, scheme=QuantScheme(bits=4)), "weight of layer 'm.a' has 4 bits"),
        ("quantizer", replace(GOOD, scale=np.array(0.0, np.float32)), "quantizer 'm.a' has the scale 0.0"),
        ("weight", replace(WEIGHT, scale=np.array([1, np.nan], np.float32)), "weight of layer 'm.a' has the scale nan"),
        ("quantizer", replace(GOOD, zero_point=np.array(200)), "quantizer 'm.a' has the zero-point 200"),
        ("weight", replace(WEIGHT, integers=np.array([[-129]])), "weight of layer 'm.a' has the integer -129"),
        ("weight", replace(WEIGHT, integers=None), "weight of layer 'm.a' has the integers None"),
        ("quantizer", replace(GOOD, scale=np.ones(3, np.float32)), r"quantizer 'm.a' has scales of shape \(3,\)"),
        ("quantizer", replace(GOOD, scheme=QuantScheme(narrow_range=True)), "'m.a' has narrow_range=True"),
    ],
)
def test_numbers_that_cannot_be_written_are_named(edge, qparams, told):
    check = check_activation if edge == "quantizer" else check_weight
    with pytest.raises(ExportError, match=told):
        check("m.a", qparams)


def test_unsigned_integers_reach_255():
    qparams = replace(GOOD, scheme=QuantScheme(symmetric=False, unsigned=True), zero_point=np.array(200))
    check_activation("a", qparams)
    tensor = zero_point_tensor("z", qparams)
    assert (tensor.data_type, list(tensor.dims), tensor.raw_data) == (2, [], b"\xc8")
