from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
from tiny_qdq import build


@pytest.fixture(scope="session")
def tiny() -> Callable[..., onnx.ModelProto]:
    return build
