from __future__ import annotations

import copy
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from yoloqat.config import ExportConfig, QuantConfig
from yoloqat.errors import ExportError
from yoloqat.export import export_qdq, save_onnx
from yoloqat.quant import QParams, swap_layers, swappable_layers, weights_float
from yoloqat.quant.graph import quantizer_placeholders


def fake(tensor, qparams):
    scale = torch.from_numpy(np.asarray(qparams.scale))
    return torch.clamp(torch.round(tensor / scale), -128, 127) * scale


def weight(qparams, axis):
    shape = [1] * qparams.integers.ndim
    if axis is not None:
        shape[axis] = -1
    return torch.from_numpy(qparams.integers).float() * torch.from_numpy(qparams.scale.reshape(shape))


def reference(net, qparams, images):
    """What the exported graph must compute, written with torch alone."""
    inputs = {location.removesuffix("._input_quantizer"): own for location, own in qparams.activations.items()}
    w = {
        name: weight(qparams.weights[name], axis)
        for name, axis in {"stem": 0, "left": 0, "right": 0, "up": 1, "fc": 0, "last": None}.items()
    }
    stem = F.silu(F.conv2d(fake(images, inputs["stem"]), w["stem"], net.stem.bias, padding=1))
    shared = fake(stem, inputs["left"])
    left = F.silu(F.conv2d(shared, w["left"], net.left.bias))
    both = torch.cat([left, F.conv2d(shared, w["right"], net.right.bias, padding=1)], 1)
    up = F.conv_transpose2d(fake(both, inputs["up"]), w["up"], net.up.bias, stride=2)
    line = F.linear(fake(up, inputs["fc"]), w["fc"], net.fc.bias)
    return line, F.linear(fake(line.mean((1, 2)), inputs["last"]), w["last"], net.last.bias)


@pytest.fixture(scope="module")
def swapped(net):
    swapped = copy.deepcopy(net)
    swap_layers(swapped, swappable_layers(swapped), QuantConfig())
    return swapped


@pytest.fixture(scope="module")
def exported(swapped, qparams, example, metadata, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    with weights_float(swapped), quantizer_placeholders(swapped):
        return path, export_qdq(swapped, qparams, example, path, config=ExportConfig(), metadata=metadata)


def test_report_counts_convolutions_and_aliases(exported):
    _, report = exported
    assert (report.quantized_convolutions, report.convolutions) == (4, 4)
    assert report.aliases == {"right/input/QuantizeLinear": "left/input/QuantizeLinear"}


def test_runtime_computes_what_the_numbers_say(exported, net, qparams, example):
    path, _ = exported
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    outputs = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(
        None, {"images": example.numpy()}
    )
    with torch.no_grad():
        wanted = reference(net, qparams, example)
    for output, want in zip(outputs, wanted, strict=True):
        np.testing.assert_allclose(output, want.numpy(), atol=1e-5)


def test_file_tells_its_sites_and_nothing_of_the_machine(exported):
    path, _ = exported
    model = onnx.load(path)
    own = json.loads(next(entry.value for entry in model.metadata_props if entry.key == "yoloqat"))
    quantizers = [node.name for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert [location for location in own["sites"] if location.endswith("/QuantizeLinear")] == quantizers
    assert "stem/weight/DequantizeLinear" in own["sites"]
    assert b".py" not in path.read_bytes()


def test_unquantized_layers_stay_float(net, qparams, example, metadata, tmp_path):
    swapped = copy.deepcopy(net)
    swap_layers(swapped, ["stem", "left"], QuantConfig())
    weights = {name: qparams.weights[name] for name in ("stem", "left")}
    with weights_float(swapped), quantizer_placeholders(swapped):
        own = QParams(qparams.activations, weights)
        report = export_qdq(swapped, own, example, tmp_path / "m.onnx", config=ExportConfig(), metadata=metadata)
    assert (report.quantized_convolutions, report.convolutions) == (2, 4)


def test_failed_export_leaves_no_file(net, example, tmp_path):
    with pytest.raises(ExportError, match="metadata lacks names"):
        export_qdq(net, QParams({}, {}), example, tmp_path / "m.onnx", config=ExportConfig(), metadata={})
    assert list(tmp_path.iterdir()) == []


def test_invalid_graph_is_not_written(traced, tmp_path):
    broken = onnx.ModelProto()
    broken.CopyFrom(traced)
    broken.graph.node[0].input[0] = "nobody makes this"
    with pytest.raises(ExportError, match=r"the graph for '.*m\.onnx' is not valid ONNX"):
        save_onnx(broken, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("opset", [17, 21, 23])
def test_quantized_graph_is_valid_in_other_opsets(metadata, qparams, tmp_path, opset):
    path = tmp_path / "m.onnx"
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.SiLU()).eval()
    swap_layers(module, ["0"], QuantConfig())
    own = QParams({"0._input_quantizer": qparams.activations["stem._input_quantizer"]}, {"0": qparams.weights["stem"]})
    with weights_float(module), quantizer_placeholders(module):
        report = export_qdq(
            module, own, torch.rand(1, 3, 8, 8), path, config=ExportConfig(opset=opset), metadata=metadata
        )
    assert (report.quantized_convolutions, report.convolutions) == (1, 1)
    model = onnx.load(path)
    assert model.opset_import[0].version == opset
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
