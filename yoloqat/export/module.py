"""Export any quantized torch module as QDQ ONNX."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from yoloqat.config import ExportConfig
from yoloqat.export.qdq import ExportReport, export_qdq
from yoloqat.quant import module_qparams, unshared, weights_float
from yoloqat.quant.graph import quantizer_placeholders


def export_module(
    module: nn.Module,
    path: str | Path,
    example: Tensor,
    *,
    opset: int = ExportConfig.opset,
    dynamic: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> ExportReport:
    """Write a calibrated module as ONNX with 8-bit weights and a Q/DQ pair at each quantizer.

    Args:
        module: From :func:`yoloqat.quant.calibrate_module`, perhaps fine-tuned; not changed.
        path: The file to write.
        example: An input of the shape to export, float32, shape (batch, ...).
        opset: Version of the standard ONNX operators, 13 to 23; affine 8-bit schemes and others need no particular one.
        dynamic: Leave the batch size open; the example then has at least two.
        metadata: Properties to write into the file.

    Returns:
        Counts of convolutions and the readers that share a quantizer.

    Raises:
        CalibrationError: A quantizer has no range.
        ExportError: The module cannot be traced, or a scheme cannot be written as QDQ.
        OutputError: The file cannot be written.
    """
    exported = copy.deepcopy(module).to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    qparams = module_qparams(exported)
    config = ExportConfig(opset=opset, dynamic=dynamic, batch=len(example))
    with unshared(exported), weights_float(exported), quantizer_placeholders(exported):
        return export_qdq(
            exported, qparams, example.cpu(), Path(path), config=config, metadata=metadata or {}, required=()
        )
