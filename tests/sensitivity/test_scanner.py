from __future__ import annotations

import numpy as np
import pytest
import torch

from yoloqat.sensitivity.scanner import on_host


def forwards(log, device="cpu", count=7):
    for number in range(count):
        log.append(number)
        yield (None if number == 0 else f"item {number}"), torch.full((2, 3), float(number), device=device)


def test_on_a_cpu_each_output_is_there_before_the_next_is_begun():
    log = []
    for number, (name, raw, seconds) in enumerate(on_host(forwards(log), torch.device("cpu"))):
        assert log == list(range(number + 1))
        assert name == (None if number == 0 else f"item {number}")
        assert np.array_equal(raw, np.full((2, 3), number, np.float32))
        assert seconds >= 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_several_are_under_way_and_all_arrive_in_order():
    log = []
    device = torch.device("cuda", 0)
    found = []
    for name, raw, seconds in on_host(forwards(log, device), device, depth=3):
        found.append((name, float(raw[0, 0])))
        assert seconds >= 0
        if len(found) == 1:
            assert len(log) == 4
    assert found == [(None, 0.0), *((f"item {number}", float(number)) for number in range(1, 7))]
