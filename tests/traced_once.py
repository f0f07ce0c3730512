"""Traces that all tests of a process share: a module in the very state of one traced before is not traced again.

Most commands trace the same few tiny detectors, and a trace takes longer than all that a command does with it. A module of a
class that a test defines, or with a hook of a test's own, is traced whenever it is asked for.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from yoloqat.export import qdq
from yoloqat.quant.graph import quantizer_placeholders, trace

LARGEST = 4_000_000
"""Bytes of a pickled module above which comparing its state is no gain."""

Trace = Callable[..., Any]


class _Pickler(pickle.Pickler):
    """Writes a tensor as its values, which its own pickle mixes with addresses, or without them."""

    def __init__(self, stream: io.BytesIO, without_values: set[int]) -> None:
        super().__init__(stream)
        self._without_values = without_values

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return None
        kind = (type(value), value.shape, value.stride(), value.dtype, value.device.type, value.requires_grad)
        if id(value) in self._without_values:
            return kind
        return (*kind, value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())


def _state(module: nn.Module, example: torch.Tensor, options: dict[str, Any], *, weights: bool) -> bytes | None:
    """Return all that a trace depends on, the values of parameters and buffers if asked; None where that cannot be told."""
    forwards = [id(type(part).forward) for part in module.modules()]  # a test may have planted another
    seen = (forwards, example.shape, example.stride(), example.dtype, example.device.type, sorted(options.items()))
    stream = io.BytesIO()
    own = {id(value) for value in module.state_dict(keep_vars=True).values()}
    try:
        _Pickler(stream, set() if weights else own).dump((module, seen))
    except (
        Exception
    ):  # a class or function without a name at the top of a file; pickle lets through what its parts raise
        return None
    return stream.getvalue() if stream.tell() < LARGEST else None


def traced_once(
    make: Trace,
    copied: Callable[[Any], Any],
    around: Callable[[nn.Module], AbstractContextManager[None]],
    *,
    weights: bool,
) -> Trace:
    """Return ``make`` with a memory of what it made.

    Args:
        make: Traces a module at an example, with options.
        copied: Makes a copy of a trace for a caller that may change it.
        around: Context of the forward before a trace.
        weights: Whether a trace holds the values of the module's parameters and buffers.
    """
    known: dict[bytes, Any] = {}

    def once(module: nn.Module, example: torch.Tensor, **options: Any) -> Any:
        if module.training:
            return make(module, example, **options)
        with torch.no_grad(), around(module):
            module(example)  # as before every trace: a head keeps its anchors
        state = _state(module, example, options, weights=weights)
        if state is None:
            return make(module, example, **options)
        if state not in known:
            known[state] = make(module, example, **options)
        return copied(known[state])

    return once


def _copied(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


@contextmanager
def shared_traces() -> Iterator[None]:
    """Let yoloqat's modules share traces for as long as the context lasts."""
    once = traced_once(trace, lambda found: found, quantizer_placeholders, weights=False)
    users = [
        name for name, user in sys.modules.items() if name.startswith("yoloqat.") and vars(user).get("trace") is trace
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name in users:
            patch.setattr(sys.modules[name], "trace", once)
        patch.setattr(
            qdq, "trace_onnx", traced_once(qdq.trace_onnx, _copied, lambda _module: nullcontext(), weights=True)
        )
        yield


@contextmanager
def never_known() -> Iterator[None]:
    """Let every module be traced whenever it is asked for, as without :func:`shared_traces`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "_state", lambda *_, **__: None)
        yield
