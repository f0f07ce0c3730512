"""Export of a float module and its qparams as a QDQ ONNX file, with checks; measures nothing."""

from yoloqat.export.cut import Cut, cut_at_quantizers
from yoloqat.export.metadata import named_quantizers, ultralytics_metadata
from yoloqat.export.module import export_module
from yoloqat.export.qdq import ExportReport, export_qdq, quantize_graph, save_onnx
from yoloqat.export.trace import trace_onnx

__all__ = [
    "Cut",
    "ExportReport",
    "cut_at_quantizers",
    "export_module",
    "export_qdq",
    "named_quantizers",
    "quantize_graph",
    "save_onnx",
    "trace_onnx",
    "ultralytics_metadata",
]
