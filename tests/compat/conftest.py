"""The namespace under NVIDIA's name, and left as it was found after every test."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import pytest

from yoloqat.compat import installed, uninstall


@pytest.fixture(autouse=True)
def _left_as_found() -> Iterator[None]:
    with installed() as ours:
        if not ours:
            pytest.skip("NVIDIA's own pytorch-quantization is installed, which is never shadowed")
        yield
    uninstall()


@pytest.fixture
def pq() -> ModuleType:
    """What ``import pytorch_quantization`` gives."""
    return importlib.import_module("pytorch_quantization")
