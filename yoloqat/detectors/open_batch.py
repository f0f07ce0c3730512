"""Tracing with an open batch size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def open_batch(module: nn.Module) -> Iterator[None]:
    """Let the heads of Ultralytics rebuild their anchors at every forward inside the block.

    They keep them from the last forward of the same shape; to compare the shapes, a trace would fix the batch size.
    """
    heads: list[Any] = [child for child in module.modules() if isinstance(getattr(child, "dynamic", None), bool)]
    kept = [dict(vars(head)) for head in heads]
    try:
        for head in heads:
            head.dynamic = True
        yield
    finally:
        for head, before in zip(heads, kept, strict=True):
            if "dynamic" in before:
                head.dynamic = before["dynamic"]
            else:
                del head.dynamic
