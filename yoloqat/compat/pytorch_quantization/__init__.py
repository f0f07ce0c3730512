"""The interface of NVIDIA's ``pytorch_quantization`` over :mod:`yoloqat.quant`, for scripts and checkpoints made for it."""

from yoloqat.compat.pytorch_quantization import calib, nn, optim, quant_modules, tensor_quant, utils
from yoloqat.compat.pytorch_quantization.quant_modules import deactivate, enable_onnx_export, initialize

__version__ = "2.2.1+yoloqat"
"""The release of NVIDIA's package whose interface this is."""

__all__ = [
    "calib",
    "deactivate",
    "enable_onnx_export",
    "initialize",
    "nn",
    "optim",
    "quant_modules",
    "tensor_quant",
    "utils",
]
