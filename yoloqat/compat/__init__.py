"""NVIDIA's ``pytorch_quantization`` as a namespace over yoloqat's core, so that its scripts and checkpoints carry over.

Either import :mod:`yoloqat.compat.pytorch_quantization` itself, or call :func:`install` before a script that imports
``pytorch_quantization``.
"""

from yoloqat.compat.alias import install, installed, is_installed, uninstall

__all__ = ["install", "installed", "is_installed", "uninstall"]
