"""The state of an unfinished training as one safetensors file: tensors in their own precision, all else as JSON. No pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from yoloqat.provenance import atomic_path

_KEY = "yoloqat"
_SCHEMA = ["yoloqat/training-state", 2]


@dataclass
class TrainingState:
    """Everything that an interrupted training needs to go on as if it had not been interrupted.

    Attributes:
        tensors: By group (``"model"``, ``"ema"``, ``"optimizer"``) and name.
        values: JSON-able: epochs done, figures of each, schedule, optimizer settings, early stop.
    """

    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def put_module(self, group: str, module: nn.Module) -> None:
        """Keep a module's parameters and buffers."""
        self.tensors[group] = dict(module.state_dict())

    def load_module(self, group: str, module: nn.Module) -> None:
        """Give a module back its parameters and buffers, in place: others hold references to them."""
        own = module.state_dict()
        with torch.no_grad():
            for name, value in self.tensors[group].items():
                own[name].copy_(value)

    def put_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep an optimizer's moments in their own precision, and the settings of its groups."""
        state = optimizer.state_dict()
        tensors, values = {}, {}
        for index, entries in state["state"].items():
            for name, value in entries.items():
                if isinstance(value, Tensor):
                    tensors[f"{index}/{name}"] = value
                else:
                    values[f"{index}/{name}"] = value
        self.tensors["optimizer"] = tensors
        self.values["optimizer"] = {"groups": state["param_groups"], "state": values}

    def load_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Give an optimizer back what :meth:`put_optimizer` kept."""
        kept = self.values["optimizer"]
        state: dict[int, dict[str, Any]] = {}
        for key, value in [*self.tensors["optimizer"].items(), *kept["state"].items()]:
            index, name = key.split("/", 1)
            state.setdefault(int(index), {})[name] = value
        groups = [
            {name: tuple(value) if name == "betas" else value for name, value in group.items()}
            for group in kept["groups"]
        ]
        optimizer.load_state_dict({"state": state, "param_groups": groups})

    def save(self, path: Path) -> None:
        """Write the state to ``path``, whole or not at all.

        Raises:
            OutputError: The file cannot be written.
        """
        flat = {
            f"{group}:{name}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for group, tensors in self.tensors.items()
            for name, value in tensors.items()
        }
        text = json.dumps({"schema": _SCHEMA, "values": self.values, "groups": list(self.tensors)})
        with atomic_path(path) as temporary:
            try:
                save_file(flat, temporary, metadata={_KEY: text})
            except SafetensorError as error:
                raise OSError(None, f"{error}") from error

    @classmethod
    def load(cls, path: Path) -> TrainingState | None:
        """Read what :meth:`save` wrote; None where there is no such file or it is damaged."""
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                description = json.loads((file.metadata() or {})[_KEY])
                flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            if description["schema"] != _SCHEMA:
                return None
            state = cls({group: {} for group in description["groups"]}, description["values"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError):
            return None
        for key, value in flat.items():
            group, name = key.split(":", 1)
            state.tensors[group][name] = value
        return state
