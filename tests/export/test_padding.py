"""Zeros around a max-pooling survive what optimizers make of them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from yoloqat.export.padding import name_padded_axes
from yoloqat.export.trace import trace_onnx

NEGATIVE = -np.random.default_rng(0).random((1, 3, 4, 4), dtype=np.float32)


class PaddedPool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pad, self.pool = nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.pad(x))


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def graph(pad: onnx.NodeProto, constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    body = helper.make_graph(
        [pad, helper.make_node("MaxPool", ["p"], ["y"], kernel_shape=[2, 2], name="pool")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, NEGATIVE.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, None, None])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


PADS = np.array([0, 0, 1, 0, 0, 0, 0, 1])


@pytest.mark.parametrize("opset", [16, 18, 19])
def test_zeros_before_a_pooling_win_over_negative_numbers(opset):
    module = PaddedPool().eval()
    model = trace_onnx(module, torch.from_numpy(NEGATIVE), opset=opset)
    expected = module(torch.from_numpy(NEGATIVE)).numpy()
    assert (expected == 0).any()
    np.testing.assert_allclose(run(model, NEGATIVE), expected, atol=1e-30)


def test_a_pad_without_a_value_pads_with_zeros():
    model = graph(helper.make_node("Pad", ["x", "n"], ["p"], name="pad"), {"n": PADS})
    result = name_padded_axes(model)
    assert result.modified
    assert [list(numpy_helper.to_array(t)) for t in result.model.graph.initializer[1:]] == [[1, 0, 0, 1], [2, 3]]
    padded = np.pad(NEGATIVE, ((0, 0), (0, 0), (1, 0), (0, 1)))
    expected = np.lib.stride_tricks.sliding_window_view(padded, (2, 2), axis=(2, 3)).max(axis=(4, 5))
    assert np.array_equal(run(result.model, NEGATIVE), expected)


@pytest.mark.parametrize(
    ("pad", "constants"),
    [
        (helper.make_node("Pad", ["x", "n"], ["p"], name="pad", mode="edge"), {"n": PADS}),
        (
            helper.make_node("Pad", ["x", "n", "", "a"], ["p"], name="pad"),
            {"n": np.array([1, 1]), "a": np.array([2])},
        ),
        (helper.make_node("Relu", ["x"], ["p"], name="pad"), {}),
    ],
    ids=["edge", "axes", "no pad"],
)
def test_what_needs_no_change_is_given_back_as_it_is(pad, constants):
    model = graph(pad, constants)
    result = name_padded_axes(model)
    assert result.model is model
    assert not result.modified
