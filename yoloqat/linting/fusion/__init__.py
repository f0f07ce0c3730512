"""A model of how TensorRT fuses the layers of a QDQ file: predictions from the file alone, each by a rule with a source."""

from yoloqat.linting.fusion.model import FLOAT, HALF, INT8, Kind, PredictedLayer

__all__ = ["FLOAT", "HALF", "INT8", "Kind", "PredictedLayer"]
