"""Rebuild a model from a pickle's records with known classes and plain values; the pickle is never executed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from yoloqat.detectors.inert import Held, Inert
from yoloqat.errors import ModelError

MAX_MODULES, MAX_VALUES, MAX_DEPTH = 50_000, 2_000_000, 40
"""Limits on the modules and plain values that a checkpoint records, and on their nesting depth."""

MAX_BITS = 64
"""Of a whole number."""

_ABSENT = object()


class Recorded:
    """Reads one checkpoint's tree of stand-ins within limits: a few bytes of a pickle can describe any number of values.

    Args:
        known: Maps ``"package.Class"`` to the class that is made for it, or None where there is none.
    """

    def __init__(self, known: Callable[[str], type[nn.Module] | None]) -> None:
        self._known = known
        self._values = 0
        self._modules = 0
        self._leaves: dict[int, nn.Module] = {}
        self._seen: set[int] = set()

    def count(self) -> None:
        """Count one more module.

        Raises:
            ValueError: There are too many.
        """
        self._modules += 1
        if self._modules > MAX_MODULES:
            raise ValueError(f"more than {MAX_MODULES} modules")

    def plain(self, value: Any) -> Any:
        """Return a copy of numbers, texts, tensors and containers of them; None for anything else.

        Raises:
            ValueError: There are too many values, or a number is too large.
        """
        found = self._plain(value, 0)
        return None if found is _ABSENT else found

    def _plain(self, value: Any, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_VALUES} values, or more than {MAX_DEPTH} within each other")
        if type(value) is int and value.bit_length() > MAX_BITS:
            raise ValueError(f"a number of {value.bit_length()} bits")  # Python refuses to print the largest
        if value is None or type(value) in (bool, int, float, str):
            return value
        if type(value) is Held:
            return value.tensor.float() if value.tensor.is_floating_point() else value.tensor.clone()
        if type(value) in (list, tuple):
            entries = [self._plain(entry, depth + 1) for entry in value]
            return _ABSENT if any(entry is _ABSENT for entry in entries) else type(value)(entries)
        if type(value) in (dict, OrderedDict):
            pairs = {
                self._plain(key, depth + 1): self._plain(entry, depth + 1)
                for key, entry in value.items()
                if type(key) in (str, int)
            }
            return {key: entry for key, entry in pairs.items() if entry is not _ABSENT}
        return _ABSENT

    def module(self, recorded: Any, depth: int = 0) -> nn.Module:
        """Return a module of known classes with the tensors and plain attributes that were recorded: no hook, no method.

        Args:
            recorded: A stand-in for a module.
            depth: Nesting depth.

        Raises:
            ModelError: A class is unknown.
            TypeError, ValueError, KeyError: It is not as torch pickles modules, too large, or within itself.
        """
        if not isinstance(recorded, Inert) or not isinstance(recorded.state, dict):
            raise TypeError(f"{getattr(recorded, 'kind', type(recorded).__name__)!r:.80} instead of a module")
        if id(recorded) in self._leaves:
            return self._leaves[id(recorded)]
        self.count()
        if id(recorded) in self._seen or depth > MAX_DEPTH:
            raise ValueError(f"a module that occurs twice, or more than {MAX_DEPTH} within each other")
        self._seen.add(id(recorded))
        kind = self._known(recorded.kind)
        if kind is None:
            raise ModelError(
                f"the checkpoint holds a module of the class {recorded.kind!r:.80}",
                expected="layers that Ultralytics' detectors are made of",
                hint="pass a .pt that Ultralytics trained for detection",
            )
        made = kind.__new__(kind)
        nn.Module.__init__(made)
        structure = set(vars(made))
        state = recorded.state
        for name, value in state.items():
            if type(name) is str and name not in structure and not name.startswith("_") and not _method(kind, name):
                found = self._plain(value, 0)
                if found is not _ABSENT:
                    vars(made)[name] = found
        if isinstance(made, nn.Upsample):
            vars(made).setdefault("recompute_scale_factor", None)  # of before torch 1.11
        for name, tensor in state["_parameters"].items():
            value = None if tensor is None else nn.Parameter(self._tensor(tensor), requires_grad=False)
            made.register_parameter(name, value)
        for name, tensor in state["_buffers"].items():
            made.register_buffer(name, None if tensor is None else self._tensor(tensor))
        for name, child in state["_modules"].items():
            made.add_module(name, None if child is None else self.module(child, depth + 1))
        if not state["_modules"] and not state["_parameters"] and not state["_buffers"]:
            self._leaves[id(recorded)] = made  # e.g. an activation, which all convolutions share
        return made.eval()

    def _tensor(self, value: Any) -> torch.Tensor:
        if type(value) is not Held:
            raise TypeError(f"a {type(value).__name__} instead of a tensor")
        found: torch.Tensor = self._plain(value, 0)
        return found


def _method(kind: type[nn.Module], name: str) -> bool:
    return callable(getattr(kind, name, None))
