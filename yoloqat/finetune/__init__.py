"""Quantization-aware fine-tuning of calibrated detectors, on their family's trainer or by distillation alone."""

from yoloqat.finetune.keeper import BEST, LAST, EpochRow, Keeper
from yoloqat.finetune.settings import FinetuneConfig, LossWeights, SupervisionConfig, parse_rates
from yoloqat.finetune.state import TrainingState

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
