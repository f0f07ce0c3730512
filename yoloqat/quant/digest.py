"""A digest of a module's tensors and quantizer settings."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from yoloqat.quant.tensor_quantizer import TensorQuantizer


def state_digest(module: nn.Module) -> str:
    """Return the SHA-256 of a module's parameters and buffers and of each quantizer's scheme and switches, as lower-case hex."""
    found = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        plain = tensor.detach().cpu().contiguous()
        found.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    for holder_name, holder in module.named_modules():
        for attribute, value in (*holder._modules.items(), *vars(holder).items()):
            if isinstance(value, TensorQuantizer):
                switches = (value.name, value.scheme, value._disabled, value._if_quant, value._if_calib)
                found.update(f"{holder_name}.{attribute} {switches}\n".encode())
    return found.hexdigest()
