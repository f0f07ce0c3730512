"""Weights to detectors, detectors to boxes."""

from yoloqat.detectors.checkpoint import load_checkpoint, save_checkpoint
from yoloqat.detectors.detector import Detector, Quantization, Source
from yoloqat.detectors.load import load_detector
from yoloqat.detectors.predictor import TorchPredictor, torch_device, torch_threads

__all__ = [
    "Detector",
    "Quantization",
    "Source",
    "TorchPredictor",
    "load_checkpoint",
    "load_detector",
    "save_checkpoint",
    "torch_device",
    "torch_threads",
]
