"""Scripts export through torch.onnx: both switches give QuantizeLinear and DequantizeLinear on inputs and weights."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from yoloqat.compat.pytorch_quantization import nn as quant_nn
from yoloqat.compat.pytorch_quantization import quant_modules


@pytest.fixture
def model() -> nn.Sequential:
    model = nn.Sequential(quant_nn.QuantConv2d(2, 3, 3), nn.ReLU(), quant_nn.QuantConv2d(3, 2, 1)).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(generator=generator)
        parameter.requires_grad_(False)
    for layer in (model[0], model[2]):
        layer.input_quantizer.amax = 2.0
        layer.calibrate_weight()
    return model


def _exported(model: nn.Module, x: torch.Tensor, *, dynamo: bool) -> onnx.ModelProto:
    file = io.BytesIO()
    torch.onnx.export(model, (x,), file, opset_version=18 if dynamo else 13, dynamo=dynamo, verbose=False)
    return onnx.load_from_string(file.getvalue())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of torch's exporters themselves
@pytest.mark.parametrize(("switch", "dynamo"), [("class", False), ("context", False), ("context", True)])
def test_the_exported_graph_is_quantized_and_computes_the_same(model, switch, dynamo):
    x = torch.rand(1, 2, 6, 6, generator=torch.Generator().manual_seed(1))
    expected = model(x)  # keeps the quantized weights, which must not be exported in their place
    if switch == "class":
        quant_nn.TensorQuantizer.use_fb_fake_quant = True
        graph = _exported(model, x, dynamo=dynamo)
        quant_nn.TensorQuantizer.use_fb_fake_quant = False
    else:
        with quant_modules.enable_onnx_export():
            graph = _exported(model, x, dynamo=dynamo)
    kinds = Counter(node.op_type for node in graph.graph.node)
    assert (kinds["QuantizeLinear"], kinds["DequantizeLinear"], kinds["Conv"]) == (4, 4, 2)
    constants = {tensor.name for tensor in graph.graph.initializer}
    constants |= {node.output[0] for node in graph.graph.node if node.op_type == "Constant"}
    scales = [node.input[1] for node in graph.graph.node if node.op_type == "QuantizeLinear"]
    assert constants.issuperset(scales)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert np.allclose(result, expected.numpy(), atol=1e-4)
