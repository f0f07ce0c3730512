from __future__ import annotations

import onnx
import pytest

from yoloqat.onnx_graph.macs import convolution_macs, multiply_adds, with_input_shape

FIRST, SECOND = 16 * 16 * 32 * 3 * 9, 16 * 16 * 4 * 32 * 9


def test_each_element_meets_one_filter():
    assert multiply_adds((2, 8, 5, 5), (8, 4, 3, 3)) == 2 * 8 * 25 * 4 * 9
    assert multiply_adds((2, 8, 5, 5), (2, 4, 2, 3, 3)) == 2 * 8 * 25 * 2 * 9  # groups apart


@pytest.mark.parametrize(
    ("centre", "weight"), [((), (8, 4, 1)), ((1, 0, 5), (8, 4, 1)), ((1, 8, 0), (8, 4, 1)), ((1, 8, 5), ())]
)
def test_what_is_not_known_counts_as_none(centre, weight):
    assert multiply_adds(centre, weight) == 0


def test_an_open_batch_counts_as_one_image_and_any_shape_can_be_set(tiny):
    model = tiny(batch="n")
    assert convolution_macs(model) == {"first": FIRST, "second": SECOND}
    wide = with_input_shape(model, "images", (2, 3, 32, 16))
    assert convolution_macs(wide) == {"first": 4 * FIRST, "second": 4 * SECOND}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"


def test_a_transposed_convolution_is_counted_by_its_inputs():
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 19]> g (float[1, 4, 5, 5] x, float[4, 6, 2, 2] w) => (float[1, 6, 10, 10] y)'
        " { [up] y = ConvTranspose <strides = [2, 2]> (x, w) }"
    )
    assert convolution_macs(model) == {"up": 4 * 25 * 6 * 4}
    assert convolution_macs(model, frozenset({"Conv"})) == {}
