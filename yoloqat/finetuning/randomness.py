"""Random numbers that depend on the epoch alone, so that an interrupted training goes on with those it would have drawn."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def epoch_seeds(seed: int, epoch: int, rank: int = 0) -> tuple[int, int, int, int]:
    """Return four independent 32-bit seeds: for Python, NumPy, torch and the order of the images.

    Args:
        seed: The run's seed.
        epoch: Counted from 0.
        rank: Of this process among those that train together.
    """
    python, numpy, torch_seed, order = np.random.SeedSequence([seed, epoch, rank]).generate_state(4)
    return int(python), int(numpy), int(torch_seed), int(order)


def seed_everything(python: int, numpy: int, torch_seed: int) -> None:
    """Seed the global generators that augmentation and layers draw from."""
    random.seed(python)
    np.random.seed(numpy)  # noqa: NPY002 - Ultralytics' augmentation draws from NumPy's global generator
    torch.manual_seed(torch_seed)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Bring back the global generators of Python, NumPy and torch, and torch's choice of deterministic algorithms."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - see seed_everything
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    memory: Any = torch.utils.deterministic
    filled, cudnn = memory.fill_uninitialized_memory, torch.backends.cudnn.deterministic
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 - see seed_everything
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        memory.fill_uninitialized_memory = filled
        torch.backends.cudnn.deterministic = cudnn
