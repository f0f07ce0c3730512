"""Helpers of NVIDIA's ``pytorch_quantization.utils``."""

from yoloqat.compat.pytorch_quantization.utils.reduce_amax import reduce_amax

__all__ = ["reduce_amax"]
