"""Configuration files by which inference servers run an artefact; needs no torch."""

from yoloqat.deploy.artifact import Artifact, Tensor, describe
from yoloqat.deploy.deepstream import write_deepstream
from yoloqat.deploy.triton import triton_config, write_triton

__all__ = ["Artifact", "Tensor", "describe", "triton_config", "write_deepstream", "write_triton"]
