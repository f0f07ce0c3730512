"""From a float module and its layers' numbers to a QDQ ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from yoloqat.errors import ExportError
from yoloqat.export.activations import insert_input_quantizers, share_quantizers
from yoloqat.export.graph import CONVOLUTIONS, DEQUANTIZE, QUANTIZE, initializers, producers
from yoloqat.export.layers import name_layers, strip_trace
from yoloqat.export.metadata import KEY, set_metadata, yoloqat_metadata
from yoloqat.export.trace import trace_onnx
from yoloqat.export.weights import quantize_weights
from yoloqat.provenance import atomic_path
from yoloqat.quant.numbers import LayerNumbers


@dataclass(frozen=True)
class ExportReport:
    """What an exported file holds.

    Attributes:
        quantized_convolutions: Convolutions whose input and weight are both quantized.
        convolutions: All convolutions, transposed ones among them.
        aliases: Name of each quantizer that was joined into another, to the name of that other.
    """

    quantized_convolutions: int
    convolutions: int
    aliases: dict[str, str]


def count_convolutions(model: onnx.ModelProto) -> tuple[int, int]:
    """Return how many convolutions read a quantized input and a quantized weight, and how many there are."""
    made = producers(model.graph)
    nodes = [node for node in model.graph.node if node.op_type in CONVOLUTIONS]

    def dequantized(name: str) -> bool:
        return name in made and made[name].op_type == DEQUANTIZE

    return sum(all(dequantized(name) for name in node.input[:2]) for node in nodes), len(nodes)


def quantize_graph(
    model: onnx.ModelProto, layers: Sequence[LayerNumbers], *, metadata: Mapping[str, Any]
) -> tuple[onnx.ModelProto, ExportReport]:
    """Run all passes on a traced float graph: name layers, quantize inputs and weights, share pairs, write metadata.

    Args:
        model: A graph as :func:`yoloqat.export.trace_onnx` returns it.
        layers: The numbers of the layers to quantize; the others stay float.
        metadata: Properties of the file, see :func:`yoloqat.export.ultralytics_metadata`.

    Returns:
        The QDQ graph and what it holds.

    Raises:
        ExportError: A layer is not in the graph, or its numbers cannot be written.
    """
    named = name_layers(model).model
    quantized = insert_input_quantizers(named, layers).model
    shared = share_quantizers(quantized)
    weighted = quantize_weights(shared.model, layers).model
    stripped = strip_trace(weighted).model
    constants = initializers(stripped.graph)
    sites = [
        n.name
        for n in stripped.graph.node
        if n.op_type == QUANTIZE or (n.op_type == DEQUANTIZE and n.input[0] in constants)
    ]
    own = yoloqat_metadata(sites=sites, aliases=shared.aliases)
    result = set_metadata(stripped, {**metadata, KEY: own}).model
    quantized_count, count = count_convolutions(result)
    return result, ExportReport(quantized_count, count, shared.aliases)


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
            mend="report this with the model",
        ) from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


def export_qdq(
    module: nn.Module,
    layers: Sequence[LayerNumbers],
    example: torch.Tensor,
    path: Path,
    *,
    opset: int = 19,
    metadata: Mapping[str, Any],
) -> ExportReport:
    """Trace a float module, quantize the graph by ``layers`` and write the QDQ ONNX file.

    Args:
        module: The float module in evaluation mode, with the weights that were calibrated.
        layers: The numbers of the layers to quantize, named as in ``module``.
        example: Images that fix the shape, (batch, channels, height, width), float32.
        path: The file to write.
        opset: Version of the standard ONNX operators.
        metadata: Properties of the file, see :func:`yoloqat.export.ultralytics_metadata`.

    Returns:
        Counts of convolutions and the quantizers that were joined.

    Raises:
        ExportError: The module cannot be traced, a layer is not in the graph, or its numbers cannot be written.
        OutputError: The file cannot be written.
    """
    traced = trace_onnx(module, example, opset=opset)
    model, report = quantize_graph(traced, layers, metadata=metadata)
    save_onnx(model, path)
    return report
