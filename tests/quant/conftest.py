"""NVIDIA's figures, and small models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@dataclass(frozen=True)
class Golden:
    """What pytorch-quantization computed: figures by name, and the arrays they belong to."""

    figures: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, which wait long for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def golden() -> Golden:
    with np.load(GOLDEN / "nvidia_pytorch_quantization.npz") as arrays:
        figures = json.loads((GOLDEN / "nvidia_pytorch_quantization.json").read_text(encoding="utf-8"))
        return Golden(figures, dict(arrays))


@pytest.fixture
def net() -> nn.Sequential:
    """Conv, transposed conv and linear in two blocks, seeded, parameters frozen as a loaded detector's are."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.SiLU(), nn.ConvTranspose2d(4, 4, 2, stride=2)),
        nn.Sequential(nn.Flatten(), nn.Linear(4 * 8 * 8, 5)),
    )
    for parameter in net.parameters():
        parameter.data.normal_(generator=generator)
        parameter.requires_grad_(False)
    return net.eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
