"""Write a module and its qparams as a QDQ ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from yoloqat.config import ExportConfig
from yoloqat.errors import ExportError
from yoloqat.export.activations import insert_qdq
from yoloqat.export.half import bake_half
from yoloqat.export.layers import name_layers, strip_trace
from yoloqat.export.metadata import KEY, REQUIRED, set_metadata, yoloqat_metadata
from yoloqat.export.nms import append_nms
from yoloqat.export.trace import trace_onnx
from yoloqat.export.weights import check_weights, quantize_weights
from yoloqat.onnx_graph.file import quantized_nodes
from yoloqat.onnx_graph.graph import initializers, unname_sizes
from yoloqat.onnx_graph.operators import CONVOLUTIONS, DEQUANTIZE, QUANTIZE
from yoloqat.provenance import atomic_path
from yoloqat.quant.qparams import QParams


@dataclass(frozen=True)
class ExportReport:
    """Contents of an exported file.

    Attributes:
        quantized_convolutions: Convolutions whose input and weight are both quantized.
        convolutions: All convolutions, transposed ones among them.
        aliases: Name of the quantizer that a reader would have had by itself, to the one it uses, for every reader of a
            tensor but the first.
    """

    quantized_convolutions: int
    convolutions: int
    aliases: dict[str, str]


def quantize_graph(
    model: onnx.ModelProto, qparams: QParams, *, metadata: Mapping[str, Any], required: Sequence[str] = REQUIRED
) -> tuple[onnx.ModelProto, ExportReport]:
    """Run all passes on a traced graph: name layers, quantize activations and weights, write metadata.

    Args:
        model: A graph with its placeholders, as :func:`yoloqat.export.trace_onnx` returns it.
        qparams: Qparams of the quantizers that left placeholders and of the weights to quantize.
        metadata: Properties of the file, see :func:`yoloqat.export.ultralytics_metadata`.
        required: Keys that ``metadata`` must have.

    Returns:
        The QDQ graph and what it holds.

    Raises:
        ExportError: A layer is not in the graph, or its qparams cannot be written.
    """
    named = name_layers(model).model
    inserted = insert_qdq(named, qparams.activations)
    weighted = quantize_weights(inserted.model, qparams.weights).model
    stripped = strip_trace(weighted).model
    constants = initializers(stripped.graph)
    locations = [
        n.name
        for n in stripped.graph.node
        if n.op_type == QUANTIZE or (n.op_type == DEQUANTIZE and n.input[0] in constants)
    ]
    own = yoloqat_metadata(locations=locations, quantizers=inserted.quantizers, aliases=inserted.aliases)
    result = set_metadata(stripped, {**metadata, KEY: own}, required=required).model
    count = sum(node.op_type in CONVOLUTIONS for node in result.graph.node)
    return result, ExportReport(len(quantized_nodes(result, CONVOLUTIONS)), count, inserted.aliases)


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Check ``model`` fully (types and shapes too), then write it whole or not at all.

    Raises:
        ExportError: The model is not valid ONNX.
        OutputError: The file cannot be written.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise ExportError(
            f"the graph for '{path}' is not valid ONNX ({error})",
            expected="a graph that onnx.checker accepts",
            hint="report this with the model",
        ) from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def export_qdq(
    module: nn.Module,
    qparams: QParams,
    example: torch.Tensor,
    path: Path,
    *,
    config: ExportConfig,
    metadata: Mapping[str, Any],
    required: Sequence[str] = REQUIRED,
    classes: int = 0,
) -> ExportReport:
    """Trace a module, quantize the graph by ``qparams`` and write the QDQ ONNX file.

    Args:
        module: The module in evaluation mode; its activation quantizers emit placeholders, its weight quantizers are off.
        qparams: Qparams of the quantizers that leave placeholders and of the weights to quantize.
        example: Images that fix the shape, (batch, channels, height, width), float32.
        path: The file to write.
        config: Opset, batch, FP16 and NMS.
        metadata: Properties of the file, see :func:`yoloqat.export.ultralytics_metadata`.
        required: Keys that ``metadata`` must have.
        classes: Number of classes, for NMS.

    Returns:
        Counts of convolutions and the readers that share a quantizer.

    Raises:
        ExportError: The module cannot be traced, a layer is not in the graph, or its qparams cannot be written.
        OutputError: The file cannot be written.
    """
    traced = trace_onnx(module, example, opset=config.opset, dynamic=config.dynamic)
    layers = {name: layer for name, layer in module.named_modules() if name in qparams.weights}
    check_weights(traced, {name: layer.weight.detach().cpu().numpy() for name, layer in layers.items()})
    model, report = quantize_graph(traced, qparams, metadata=metadata, required=required)
    if config.half:
        model = bake_half(model).model
    if config.nms:
        model = append_nms(
            model, classes=classes, conf=config.nms_conf, iou=config.nms_iou, max_det=config.max_det
        ).model
    if config.dynamic:
        model = unname_sizes(model).model
    save_onnx(model, path)
    return report
