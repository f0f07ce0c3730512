from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from yoloqat.config import ExportConfig, QuantConfig, QuantScheme
from yoloqat.export import trace_onnx, ultralytics_metadata
from yoloqat.predictor import ModelInfo
from yoloqat.quant import QParams, TensorQParams, swap_layers, swappable_layers, weights_float
from yoloqat.quant.graph import quantizer_placeholders


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
def trace_with_placeholders() -> Callable[..., onnx.ModelProto]:
    def trace(net: nn.Module, example: torch.Tensor, **kwargs: int) -> onnx.ModelProto:
        swapped = copy.deepcopy(net)
        swap_layers(swapped, swappable_layers(swapped), QuantConfig())
        with weights_float(swapped), quantizer_placeholders(swapped):
            return trace_onnx(swapped, example, **kwargs)

    return trace


@pytest.fixture(scope="session")
def traced(net: Net, example: torch.Tensor) -> onnx.ModelProto:
    """The float graph."""
    return trace_onnx(net, example)


@pytest.fixture(scope="session")
def marked(trace_with_placeholders: Callable[..., onnx.ModelProto], net: Net, example: torch.Tensor) -> onnx.ModelProto:
    """The graph with a placeholder at the input of every layer."""
    return trace_with_placeholders(net, example)


@pytest.fixture(scope="session")
def metadata() -> dict[str, object]:
    return ultralytics_metadata(ModelInfo({0: "cat", 1: "dog"}), ExportConfig(imgsz=8))


@pytest.fixture(scope="session")
def make_input() -> Callable[..., TensorQParams]:
    def make(amax: float = 1.0, **scheme: object) -> TensorQParams:
        return TensorQParams(QuantScheme(**scheme), np.array(amax / 127, dtype=np.float32), np.array(0))

    return make


@pytest.fixture(scope="session")
def make_weight(net: Net) -> Callable[..., TensorQParams]:
    def make(name: str, axis: int | None = 0) -> TensorQParams:
        weight = net.get_submodule(name).weight.detach().numpy()
        others = tuple(i for i in range(weight.ndim) if i != axis) if axis is not None else None
        amax = np.abs(weight).max(axis=others, keepdims=True)
        integers = np.clip(np.round(weight * (127 / amax)), -127, 127).astype(np.int64)
        scale = (amax / 127).astype(np.float32).reshape(-1 if axis is not None else ())
        scheme = QuantScheme(axis=axis, narrow_range=True)
        return TensorQParams(scheme, scale, np.zeros(scale.shape, dtype=np.int64), integers)

    return make


@pytest.fixture(scope="session")
def qparams(make_input: Callable[..., TensorQParams], make_weight: Callable[..., TensorQParams]) -> QParams:
    """Of all layers; the two that read one tensor have equal ones."""
    amax = {"stem": 1.0, "left": 0.7, "right": 0.7, "up": 0.9, "fc": 0.6, "last": 0.3}
    axes = dict.fromkeys(amax, 0) | {"up": 1, "last": None}
    return QParams(
        {f"{name}._input_quantizer": make_input(value) for name, value in amax.items()},
        {name: make_weight(name, axis) for name, axis in axes.items()},
    )
