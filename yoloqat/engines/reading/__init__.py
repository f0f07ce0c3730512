"""What a given engine does, read from what its own tools wrote: layer information, logs, profiles, counters."""

from yoloqat.engines.reading.files import read_reports
from yoloqat.engines.reading.layer import Layer, Tensor
from yoloqat.engines.reading.losses import Loss, losses
from yoloqat.engines.reading.report import EngineReport

__all__ = ["EngineReport", "Layer", "Loss", "Tensor", "losses", "read_reports"]
