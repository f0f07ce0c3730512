"""Quantization-aware fine-tuning of calibrated detectors, on their family's trainer or by distillation alone."""

from yoloqat.finetuning.checkpoints import BEST, LAST, CheckpointManager, EpochRow, Figures
from yoloqat.finetuning.settings import FinetuneConfig, LossWeights, SupervisionConfig, parse_rates
from yoloqat.finetuning.state import TrainingState

__all__ = [
    "BEST",
    "LAST",
    "CheckpointManager",
    "EpochRow",
    "Figures",
    "FinetuneConfig",
    "LossWeights",
    "SupervisionConfig",
    "TrainingState",
    "parse_rates",
]
