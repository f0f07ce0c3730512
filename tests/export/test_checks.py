from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yoloqat.config import QuantScheme
from yoloqat.errors import ExportError
from yoloqat.export.checks import check_numbers, zero_point_tensor
from yoloqat.quant.numbers import LayerNumbers, TensorNumbers

GOOD = TensorNumbers(QuantScheme(), np.array(0.1, dtype=np.float32), np.array(0))
WEIGHT = replace(GOOD, codes=np.zeros((2, 2, 1, 1), dtype=np.int64))


def test_good_numbers_pass():
    check_numbers(LayerNumbers("a", GOOD, WEIGHT))
    check_numbers(LayerNumbers("a", None, None))


@pytest.mark.parametrize(
    ("edge", "numbers", "told"),
    [
        ("input", replace(GOOD, scheme=QuantScheme(bits=6)), "input of layer 'm.a' has 6 bits"),
        ("weight", replace(WEIGHT, scheme=QuantScheme(bits=4)), "weight of layer 'm.a' has 4 bits"),
        ("input", replace(GOOD, scale=np.array(0.0, np.float32)), "input of layer 'm.a' has the scale 0.0"),
        ("weight", replace(WEIGHT, scale=np.array([1, np.nan], np.float32)), "weight of layer 'm.a' has the scale nan"),
        ("input", replace(GOOD, zero_point=np.array(200)), "input of layer 'm.a' has the zero-point 200"),
        ("weight", replace(WEIGHT, codes=np.array([[-129]])), "weight of layer 'm.a' has the code -129"),
        ("weight", replace(WEIGHT, codes=None), "weight of layer 'm.a' has the codes None"),
        ("input", replace(GOOD, scale=np.ones(3, np.float32)), r"input of layer 'm.a' has scales of shape \(3,\)"),
        ("input", replace(GOOD, scheme=QuantScheme(narrow_range=True)), "'m.a' has narrow_range=True"),
    ],
)
def test_numbers_that_cannot_be_written_are_named(edge, numbers, told):
    layer = LayerNumbers("m.a", numbers if edge == "input" else None, numbers if edge == "weight" else None)
    with pytest.raises(ExportError, match=told):
        check_numbers(layer)


def test_unsigned_codes_reach_255():
    numbers = replace(GOOD, scheme=QuantScheme(symmetric=False, unsigned=True), zero_point=np.array(200))
    check_numbers(LayerNumbers("a", numbers, None))
    tensor = zero_point_tensor("z", numbers)
    assert (tensor.data_type, list(tensor.dims), tensor.raw_data) == (2, [], b"\xc8")
