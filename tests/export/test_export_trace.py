from __future__ import annotations

import logging

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from yoloqat.errors import ExportError
from yoloqat.export.trace import trace_onnx
from yoloqat.onnx_graph.operators import opset_of


def test_names_of_inputs_outputs_and_weights(traced):
    assert [value.name for value in traced.graph.input] == ["images"]
    assert [value.name for value in traced.graph.output] == ["output0", "output1"]
    assert {"stem.weight", "up.weight", "last.weight"} <= {tensor.name for tensor in traced.graph.initializer}
    onnx.checker.check_model(traced, full_check=True)


@pytest.mark.parametrize("opset", [13, 17, 18, 19, 20, 21, 22, 23])
def test_requested_opset_comes_out(opset):
    model = trace_onnx(nn.Sequential(nn.Conv2d(3, 2, 1), nn.SiLU()).eval(), torch.rand(1, 3, 4, 4), opset=opset)
    assert opset_of(model) == opset


@pytest.mark.parametrize("opset", [13, 19, 23])
def test_silu_is_written_as_sigmoid_times_its_input(opset):
    """TensorRT #4854 gives wrong boxes where it is written with tanh; engines fuse a Sigmoid and a Mul."""
    model = trace_onnx(nn.Sequential(nn.Conv2d(3, 2, 1), nn.SiLU()).eval(), torch.rand(1, 3, 4, 4), opset=opset)
    conv, gate, product = model.graph.node
    assert (conv.op_type, gate.op_type, product.op_type) == ("Conv", "Sigmoid", "Mul")
    assert set(product.input) == {conv.output[0], gate.output[0]}


def test_opset_that_cannot_be_had_is_refused():
    with pytest.raises(ExportError, match="opset 99 cannot be had"):
        trace_onnx(nn.Conv2d(3, 2, 1).eval(), torch.rand(1, 3, 4, 4), opset=99)


def test_an_old_opset_computes_the_same(net, example):
    model = trace_onnx(net, example, opset=13)
    assert opset_of(model) == 13
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = net(example)
    for output, want in zip(session.run(None, {"images": example.numpy()}), wanted, strict=True):
        np.testing.assert_allclose(output, want.numpy(), atol=1e-5)


def test_training_mode_is_refused(example):
    with pytest.raises(ExportError, match="module Conv2d is in training mode"):
        trace_onnx(nn.Conv2d(3, 2, 1), example)


@pytest.mark.parametrize(
    ("result", "named"), [({"a": 1}, "dict of dict"), ((1.5,), "tuple of float"), ((), "tuple of")]
)
def test_outputs_other_than_tensors_are_refused(example, result, named):
    class Odd(nn.Module):
        def forward(self, images):
            return result

    with pytest.raises(ExportError, match=f"the module returns {named}"):
        trace_onnx(Odd().eval(), example)


def test_branch_on_data_is_refused(example):
    class Branching(nn.Module):
        def forward(self, images):
            return images * 2 if images.sum() > 0 else images

    with pytest.raises(ExportError, match="module Branching cannot be traced"):
        trace_onnx(Branching().eval(), example)


def test_nothing_is_printed_and_loggers_are_left_as_they_were(example, capfd, caplog):
    logger = logging.getLogger("torch.onnx")
    before = logger.disabled
    trace_onnx(nn.Conv2d(3, 2, 1).eval(), example, opset=17)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []
    assert logger.disabled == before


@pytest.mark.parametrize(("opset", "version"), [(13, 7), (17, 8), (19, 9), (21, 10), (23, 11)])
def test_ir_version_is_the_one_that_the_opset_needs(net, example, opset, version):
    assert trace_onnx(net, example, opset=opset).ir_version == version


def test_an_open_batch_has_a_name():
    class Double(nn.Module):
        def forward(self, images):
            return images * 2

    model = trace_onnx(Double().eval(), torch.rand(2, 3, 4, 4), dynamic=True)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert (dims[0].dim_param, dims[2].dim_value) == ("batch", 4)


def test_a_forward_that_fixes_its_batch_cannot_leave_it_open():
    class Fixed(nn.Module):
        def forward(self, images):
            return images * 2 if images.shape[0] == 2 else images

    with pytest.raises(ExportError, match=r"module Fixed (fixes its batch size to 2|cannot be traced)"):
        trace_onnx(Fixed().eval(), torch.rand(2, 3, 4, 4), dynamic=True)
