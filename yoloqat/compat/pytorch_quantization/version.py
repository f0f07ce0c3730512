"""The release of NVIDIA's package whose interface this is."""

__version__ = "2.2.1+yoloqat"
