"""From an ONNX file to an engine that runs, its speed and what it runs in integers; needs no torch."""

from yoloqat.engines.dispatch import open_engine
from yoloqat.engines.latency import LatencyItem, bench
from yoloqat.engines.openvino import OpenVINOBuild, build_openvino
from yoloqat.engines.openvino_runtime import OpenVINOPredictor
from yoloqat.engines.ort import OnnxPredictor
from yoloqat.engines.ort_build import OrtBuild, build_onnxruntime
from yoloqat.engines.precision import LayerPrecision, PrecisionMap, precision_map
from yoloqat.engines.rewrite.to_uint8 import Uint8Graph, to_uint8
from yoloqat.engines.saturation import Overflow, cpu_saturates, overflow_risk
from yoloqat.engines.zero_points import check_tensorrt

__all__ = [
    "LatencyItem",
    "LayerPrecision",
    "OnnxPredictor",
    "OpenVINOBuild",
    "OpenVINOPredictor",
    "OrtBuild",
    "Overflow",
    "PrecisionMap",
    "Uint8Graph",
    "bench",
    "build_onnxruntime",
    "build_openvino",
    "check_tensorrt",
    "cpu_saturates",
    "open_engine",
    "overflow_risk",
    "precision_map",
    "to_uint8",
]
