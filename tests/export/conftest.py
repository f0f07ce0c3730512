from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from yoloqat.config import QuantScheme
from yoloqat.export import trace_onnx, ultralytics_metadata
from yoloqat.predictor import ModelInfo
from yoloqat.quant.numbers import LayerNumbers, TensorNumbers


class Net(nn.Module):
    """Two convolutions that read one tensor, a concatenation, a transposed convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.left = nn.Conv2d(8, 4, 1)
        self.right = nn.Conv2d(8, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2)
        self.fc = nn.Linear(16, 5)
        self.last = nn.Linear(5, 3)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        stem = nn.functional.silu(self.stem(images))
        both = torch.cat([nn.functional.silu(self.left(stem)), self.right(stem)], 1)
        line = self.fc(self.up(both))
        return line, self.last(line.mean((1, 2)))


@pytest.fixture(scope="session")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="session")
def example() -> torch.Tensor:
    return torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def traced(net: Net, example: torch.Tensor) -> onnx.ModelProto:
    return trace_onnx(net, example)


@pytest.fixture(scope="session")
def metadata() -> dict[str, object]:
    return ultralytics_metadata(ModelInfo({0: "cat", 1: "dog"}), imgsz=(8, 8), batch=1)


@pytest.fixture(scope="session")
def make_input() -> Callable[..., TensorNumbers]:
    def make(amax: float = 1.0, **scheme: object) -> TensorNumbers:
        return TensorNumbers(QuantScheme(**scheme), np.array(amax / 127, dtype=np.float32), np.array(0))

    return make


@pytest.fixture(scope="session")
def make_weight(net: Net) -> Callable[..., TensorNumbers]:
    def make(name: str, axis: int | None = 0) -> TensorNumbers:
        weight = net.get_submodule(name).weight.detach().numpy()
        others = tuple(i for i in range(weight.ndim) if i != axis) if axis is not None else None
        amax = np.abs(weight).max(axis=others, keepdims=True)
        codes = np.clip(np.round(weight * (127 / amax)), -127, 127).astype(np.int64)
        scale = (amax / 127).astype(np.float32).reshape(-1 if axis is not None else ())
        scheme = QuantScheme(axis=axis, narrow_range=True)
        return TensorNumbers(scheme, scale, np.zeros(scale.shape, dtype=np.int64), codes)

    return make


@pytest.fixture(scope="session")
def layers(make_input: Callable[..., TensorNumbers], make_weight: Callable[..., TensorNumbers]) -> list[LayerNumbers]:
    return [
        LayerNumbers("stem", make_input(1.0), make_weight("stem")),
        LayerNumbers("left", make_input(0.7), make_weight("left")),
        LayerNumbers("right", make_input(0.7), make_weight("right")),
        LayerNumbers("up", make_input(0.9), make_weight("up", 1)),
        LayerNumbers("fc", make_input(0.6), make_weight("fc")),
        LayerNumbers("last", make_input(0.3), make_weight("last", None)),
    ]
