"""The interface of NVIDIA's ``pytorch_quantization`` over :mod:`yoloqat.quant`, for scripts and checkpoints made for it."""

from yoloqat.compat.pytorch_quantization import calib, cuda_ext, nn, optim, quant_modules, tensor_quant, utils
from yoloqat.compat.pytorch_quantization.quant_modules import deactivate, enable_onnx_export, initialize
from yoloqat.compat.pytorch_quantization.version import __version__ as __version__

__all__ = [
    "calib",
    "cuda_ext",
    "deactivate",
    "enable_onnx_export",
    "initialize",
    "nn",
    "optim",
    "quant_modules",
    "tensor_quant",
    "utils",
]
