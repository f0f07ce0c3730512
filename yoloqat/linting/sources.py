"""Where the reasons of the rules can be read."""

from __future__ import annotations

from yoloqat.linting.rule import Source

_DOCS = "https://docs.nvidia.com/deeplearning/tensorrt/latest"
_EXPLICIT = f"{_DOCS}/inference-library/quantized-types-explicit-quantization.html"
_PARSER_URL = "https://github.com/onnx/onnx-tensorrt/blob/main/onnxOpImporters.cpp"

PARSER = Source("TensorRT's ONNX parser, onnxOpImporters.cpp, QuantDequantLinearHelper", _PARSER_URL)
TYPES = Source(
    "TensorRT, Working with Quantized Types: data types and granularity per type",
    f"{_DOCS}/inference-library/work-quantized-types.html",
)
PLACEMENT = Source("TensorRT, Explicit Quantization: Q/DQ layer-placement recommendations", _EXPLICIT)
PROPAGATION = Source("TensorRT, Explicit Quantization: Q/DQ propagation", _EXPLICIT)
OPSETS = Source("TensorRT, ONNX Opset Guide", f"{_DOCS}/reference/onnx-opset-guide.html")
ONNX_SUPPORT = Source("TensorRT, Explicit Quantization: ONNX support", _EXPLICIT)
ALIGNMENT = Source(
    "TensorRT, Optimizing for Tensor Cores: alignment 16 for INT8, 32 with sparsity",
    "https://docs.nvidia.com/deeplearning/tensorrt/developer-guide/index.html#optimize-tensor-cores",
)
BIAS = Source(
    "onnx-tensorrt, the bias of ONNX Runtime's quantizer (#850)", "https://github.com/onnx/onnx-tensorrt/issues/850"
)
GROUPS = Source(
    "TensorRT, IConvolutionLayer::setNbGroups",
    "https://docs.nvidia.com/deeplearning/tensorrt/api/c_api/classnvinfer1_1_1_i_convolution_layer.html",
)
DEPTHWISE = Source(
    "TensorRT, no INT8 kernel for depthwise with Swish in 8.5 (#3385), INT8 groups slower than FP16 (#4529)",
    "https://github.com/NVIDIA/TensorRT/issues/3385",
)
CONCAT = Source(
    "NVIDIA, Guidance of QAT performance optimization (YOLOv7)",
    "https://github.com/NVIDIA-AI-IOT/yolo_deepstream/blob/main/yolov7_qat/doc/"
    "Guidance_of_QAT_performance_optimization.md",
)
REMAINDER = Source(
    "Ultralytics, Run the float head of QAT TensorRT engines in FP16 (#26167)",
    "https://github.com/ultralytics/ultralytics/pull/26167",
)
BLOCKS = Source(
    "TensorRT #4039, copies between layouts of 32 and of 4 channels in a YOLO with Q/DQ",
    "https://github.com/NVIDIA/TensorRT/issues/4039",
)
ONNX = Source(
    "ONNX, Operators: QuantizeLinear, DequantizeLinear", "https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html"
)
ONNX_IR = Source("ONNX, IR specification: graphs", "https://onnx.ai/onnx/repo-docs/IR.html#graphs")
HEAD = Source(
    "Ultralytics, the exporter's INT8 path keeps the head's output convolutions and the decode float",
    "https://github.com/ultralytics/ultralytics/blob/main/ultralytics/utils/export/engine.py",
)
