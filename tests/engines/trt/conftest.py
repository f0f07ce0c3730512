from __future__ import annotations

import pytest
from stand_in import World, make_tensorrt


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(params=[10, 11])
def trt(request, world):
    return make_tensorrt(request.param, world)
