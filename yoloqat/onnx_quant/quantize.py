"""Qparams of a float ONNX graph, and the graph with its quantizers or with some of them alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from yoloqat.calibration.weights import weight_amax
from yoloqat.config import MethodSpec, QuantConfig, QuantScheme
from yoloqat.errors import CalibrationError
from yoloqat.export.activations import insert_qdq
from yoloqat.export.placeholders import DOMAIN, OPERATOR
from yoloqat.export.qdq import ExportReport, quantize_graph
from yoloqat.onnx_graph.graph import attribute, copy_of, initializers, replace_nodes
from yoloqat.onnx_quant.placement import OnnxPlacement
from yoloqat.quant.calib import Histogram
from yoloqat.quant.qparams import QParams, TensorQParams, tensor_qparams
from yoloqat.quant.tensor_quantizer import TensorQuantizer

WEIGHT = "_weight_quantizer"


def weight_location(layer: str) -> str:
    """Return the name of the quantizer of a layer's weight."""
    return f"{layer}.{WEIGHT}"


def find_qparams(
    model: onnx.ModelProto,
    placement: OnnxPlacement,
    histograms: Mapping[str, Histogram],
    config: QuantConfig,
    method: MethodSpec,
    *,
    weight_method: str = "mse",
) -> QParams:
    """Return the qparams of all quantizers, as a calibrated torch model would have them.

    Args:
        model: In normal form.
        placement: Of its quantizers.
        histograms: By the location that owns a scale.
        config: Gives the schemes.
        method: How amax is found.
        weight_method: How weights get their range.

    Raises:
        CalibrationError: A scale has no histogram.
        ConfigError: The method needs layer outputs.
    """
    by_owner: dict[str, TensorQParams] = {}
    for group in placement.plan.groups:
        if group.owner not in histograms:
            raise CalibrationError(
                f"quantizer '{group.owner}' collected nothing",
                expected="at least one batch",
                hint="run images through the model, or leave the layer float",
            )
        quantizer = TensorQuantizer(config.activations, name=group.owner)
        quantizer.load_histogram(histograms[group.owner], method)
        by_owner[group.owner] = _known(tensor_qparams(quantizer), group.owner)
    weights = {layer: _weight(layer, model, config.weights, weight_method) for layer in placement.layers}
    return QParams({location: by_owner[owner] for location, owner in placement.owners.items()}, weights)


def _known(found: TensorQParams | None, name: str) -> TensorQParams:
    if found is None:
        raise TypeError(f"quantizer {name} is off")
    return found


def _weight(layer: str, model: onnx.ModelProto, scheme: QuantScheme, method: str) -> TensorQParams:
    name = f"{layer}.weight"
    node = _reader(model, name)
    array = numpy_helper.to_array(initializers(model.graph)[name])
    weight = torch.from_numpy(np.array(array.T if turned(node) else array))
    if scheme.axis is not None and node.op_type == "ConvTranspose":
        scheme = QuantScheme(scheme.bits, axis=1, narrow_range=scheme.narrow_range)
    quantizer = TensorQuantizer(scheme, name=weight_location(layer))
    quantizer.amax = weight_amax(weight, scheme, method)
    return _known(tensor_qparams(quantizer, weight), layer)


def turned(node: onnx.NodeProto) -> bool:
    """Return whether a layer reads its weight as (inputs, outputs)."""
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0))


def quantized_graph(
    model: onnx.ModelProto, placement: OnnxPlacement, qparams: QParams, metadata: Mapping[str, Any]
) -> tuple[onnx.ModelProto, ExportReport]:
    """Return the QDQ graph of a float graph.

    Args:
        model: In normal form.
        placement: Of its quantizers.
        qparams: Of all of them.
        metadata: Properties of the file.

    Raises:
        ExportError: Qparams cannot be written.
    """
    return quantize_graph(_with_placeholders(model, placement), qparams, metadata=metadata, required=())


def fake_quantized(
    model: onnx.ModelProto, placement: OnnxPlacement, qparams: QParams, on: Collection[str]
) -> onnx.ModelProto:
    """Return a float graph in which some quantizer locations fake-quantize and all others are absent.

    Args:
        model: In normal form.
        placement: Of its quantizers.
        qparams: Of all of them.
        on: Locations, those of weights among them; a weight is replaced by its dequantized values.
    """
    result = insert_qdq(_with_placeholders(model, placement, set(on)), qparams.activations).model
    if result is model:
        result = copy_of(model)
    tensors = initializers(result.graph)
    for layer in placement.layers:
        if weight_location(layer) in on:
            name = f"{layer}.weight"
            values = _dequantized(qparams.weights[layer])
            values = values.T if turned(_reader(result, name)) else values
            tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))
    return result


def _reader(model: onnx.ModelProto, weight: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(node for node in model.graph.node if len(node.input) > 1 and node.input[1] == weight)
    return found


def _dequantized(qparams: TensorQParams) -> NDArray[np.float32]:
    """Return the real values of a weight's integers, in the layout in which they were quantized."""
    integers = np.asarray(qparams.integers)
    scale = np.asarray(qparams.scale, dtype=np.float32)
    if scale.ndim:
        shape = [1] * integers.ndim
        shape[qparams.scheme.axis or 0] = -1
        scale = scale.reshape(shape)
    values: NDArray[np.float32] = integers.astype(np.float32) * scale
    return values


def _with_placeholders(
    model: onnx.ModelProto, placement: OnnxPlacement, on: Collection[str] | None = None
) -> onnx.ModelProto:
    """Return a graph in which each use of a quantizer, or those at the locations ``on``, reads a placeholder."""
    uses = [use for use in placement.uses if on is None or use.location in on]
    if not uses:
        return model
    result = copy_of(model)
    by_node: dict[str, list[int]] = {}
    for number, use in enumerate(uses):
        by_node.setdefault(use.node, []).append(number)
    nodes: list[onnx.NodeProto] = []
    for node in result.graph.node:
        for number in by_node.get(node.name, ()):
            use, read = uses[number], f"placeholder_{number}"
            stand_in = helper.make_node(OPERATOR, [use.tensor], [read], domain=DOMAIN)
            stand_in.attribute.append(helper.make_attribute("name", use.location))
            nodes.append(stand_in)
            node.input[use.position] = read
        nodes.append(node)
    replace_nodes(result.graph, nodes)
    return result
