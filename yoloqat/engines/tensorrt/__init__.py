"""TensorRT 10.12 to 11: build an engine, see what it really runs in INT8, run it. TensorRT is imported on use."""

from yoloqat.engines.tensorrt.build import TensorRTBuild, TensorRTPlan, build_tensorrt, plan_tensorrt
from yoloqat.engines.tensorrt.header import EngineFile, read_engine
from yoloqat.engines.tensorrt.inspector import EngineLayers, engine_layers
from yoloqat.engines.tensorrt.load import load_cuda, load_tensorrt
from yoloqat.engines.tensorrt.options import Span, TensorRTOptions
from yoloqat.engines.tensorrt.profile import InputProfile
from yoloqat.engines.tensorrt.report import engine_results
from yoloqat.engines.tensorrt.runtime import TensorRTPredictor
from yoloqat.engines.tensorrt.trtexec import trtexec_line, trtexec_lines

__all__ = [
    "EngineFile",
    "EngineLayers",
    "InputProfile",
    "Span",
    "TensorRTBuild",
    "TensorRTOptions",
    "TensorRTPlan",
    "TensorRTPredictor",
    "build_tensorrt",
    "engine_layers",
    "engine_results",
    "load_cuda",
    "load_tensorrt",
    "plan_tensorrt",
    "read_engine",
    "trtexec_line",
    "trtexec_lines",
]
