from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from yoloqat.finetuning.randomness import epoch_seeds, generators_kept, seed_everything


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_seeds_depend_on_all_three_and_nothing_else() -> None:
    known = {epoch_seeds(seed, epoch, rank) for seed in (0, 1) for epoch in (0, 1) for rank in (0, 1)}
    assert len(known) == 8
    assert epoch_seeds(0, 1, 1) in known
    assert len({seed for seeds in known for seed in seeds}) == 32


def test_every_generator_is_seeded() -> None:
    with generators_kept():
        seed_everything(1, 2, 3)
        first = draw()
        seed_everything(1, 2, 3)
        assert draw() == first


def spoil() -> None:
    with generators_kept():
        seed_everything(4, 5, 6)
        torch.use_deterministic_algorithms(True, warn_only=True)
        raise RuntimeError("inside")


def test_generators_come_back_after_an_error() -> None:
    with generators_kept():
        seed_everything(1, 2, 3)
        expected = draw()
        seed_everything(1, 2, 3)
        with pytest.raises(RuntimeError, match="inside"):
            spoil()
        assert draw() == expected
        assert not torch.are_deterministic_algorithms_enabled()
