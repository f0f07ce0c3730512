"""Quantization-aware fine-tuning of calibrated detectors, on their family's trainer or by distillation alone."""

from yoloqat.finetuning.keeper import BEST, LAST, EpochRow, Keeper
from yoloqat.finetuning.settings import FinetuneConfig, LossWeights, SupervisionConfig, parse_rates
from yoloqat.finetuning.state import TrainingState

__all__ = [
    "BEST",
    "LAST",
    "EpochRow",
    "FinetuneConfig",
    "Keeper",
    "LossWeights",
    "SupervisionConfig",
    "TrainingState",
    "parse_rates",
]
