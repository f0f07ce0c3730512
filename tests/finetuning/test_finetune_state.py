from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from yoloqat.errors import OutputError
from yoloqat.finetuning import TrainingState


def trained(kind: str, **settings: float) -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    module = nn.Linear(3, 2)
    optimizer: torch.optim.Optimizer = getattr(torch.optim, kind)(module.parameters(), lr=0.1, **settings)
    for _ in range(3):
        step(module, optimizer)
    return module, optimizer


def step(module: nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    optimizer.zero_grad()
    loss = module(torch.arange(6.0).reshape(2, 3)).square().sum()
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.parametrize(
    ("kind", "settings"), [("AdamW", {}), ("Adam", {}), ("SGD", {"momentum": 0.9}), ("RMSprop", {})]
)
def test_training_goes_on_as_it_would_have(kind: str, settings: dict[str, float], tmp_path: Path) -> None:
    module, optimizer = trained(kind, **settings)
    state = TrainingState(values={"epoch": 3})
    state.put_module("model", module)
    state.put_optimizer(optimizer)
    state.save(tmp_path / "state.safetensors")
    expected = [float(step(module, optimizer)) for _ in range(3)]
    loaded = TrainingState.load(tmp_path / "state.safetensors")
    again = nn.Linear(3, 2)
    fresh = getattr(torch.optim, kind)(again.parameters(), lr=99.0, **settings)
    loaded.load_module("model", again)
    loaded.load_optimizer(fresh)
    assert loaded.values["epoch"] == 3
    assert [float(step(again, fresh)) for _ in range(3)] == expected


def test_tensors_that_share_memory_are_kept_apart(tmp_path: Path) -> None:
    value = torch.ones(2)
    TrainingState({"a": {"x": value, "y": value}, "b": {}}).save(tmp_path / "s.safetensors")
    assert TrainingState.load(tmp_path / "s.safetensors").tensors["a"]["y"].tolist() == [1, 1]


def test_what_is_no_state_counts_as_none(tmp_path: Path) -> None:
    assert TrainingState.load(tmp_path / "missing") is None
    (tmp_path / "damaged").write_bytes(b"damaged")
    assert TrainingState.load(tmp_path / "damaged") is None


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write '.*state.safetensors'"):
        TrainingState().save(tmp_path / "file" / "state.safetensors")
