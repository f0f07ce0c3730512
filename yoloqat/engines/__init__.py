"""From an ONNX file to an engine that runs, its speed and what it runs in integers; needs no torch."""

from yoloqat.engines.dispatch import open_engine
from yoloqat.engines.latency import LatencyItem, bench
from yoloqat.engines.openvino import OpenVINOBuild, OpenVINOPredictor, build_openvino
from yoloqat.engines.ort import OnnxPredictor
from yoloqat.engines.precision import LayerPrecision, PrecisionMap, precision_map
from yoloqat.engines.saturation import Overflow, cpu_saturates, overflow_risk
from yoloqat.engines.unsigned import Twin, unsigned_twin

__all__ = [
    "LatencyItem",
    "LayerPrecision",
    "OnnxPredictor",
    "OpenVINOBuild",
    "OpenVINOPredictor",
    "Overflow",
    "PrecisionMap",
    "Twin",
    "bench",
    "build_openvino",
    "cpu_saturates",
    "open_engine",
    "overflow_risk",
    "precision_map",
    "unsigned_twin",
]
