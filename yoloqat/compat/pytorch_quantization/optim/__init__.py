"""Helpers for training (NVIDIA's ``pytorch_quantization.optim``)."""
