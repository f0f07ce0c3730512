"""FP16 for what a QDQ file leaves float, before TensorRT reads it."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto

from yoloqat.errors import warn
from yoloqat.export import save_onnx
from yoloqat.export.half import FIRST_OPSET, bake_half
from yoloqat.onnx_graph.file import read_onnx
from yoloqat.onnx_graph.operators import QUANTIZE, opset_of

HALF_ONNX = "model_fp16.onnx"


def with_half(onnx_path: Path, directory: Path) -> Path:
    """Return a file whose float layers are FP16: TensorRT's strongly typed engines run each layer as the file types it.

    A float file, and one that has FP16 already, is returned as it is; so is one of an opset without FP16 quantizers, with a
    warning.

    Args:
        onnx_path: A QDQ file.
        directory: Takes the new file, :data:`HALF_ONNX`.

    Raises:
        ModelError: The file cannot be read.
        ExportError: A scale is no constant.
        OutputError: The new file cannot be written.
    """
    model = read_onnx(onnx_path)
    quantized = any(node.op_type == QUANTIZE for node in model.graph.node)
    if not quantized or any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
        return onnx_path
    opset = opset_of(model) or 0
    if opset < FIRST_OPSET:
        warn(
            f"'{onnx_path}' has opset {opset}, which knows no FP16 quantizers: what is not quantized runs in FP32; export it "
            f"with opset {FIRST_OPSET} for FP16"
        )
        return onnx_path
    made = directory / HALF_ONNX
    save_onnx(bake_half(model).model, made)
    return made
