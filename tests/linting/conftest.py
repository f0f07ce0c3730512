from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest

from yoloqat.linting import RULES, Finding, lint_model

Found = Callable[..., list[Finding]]


@pytest.fixture
def found() -> Found:
    """Apply all rules and return the findings of one."""

    def find(rule: str, model: onnx.ModelProto, **options: object) -> list[Finding]:
        assert rule in {known.id for known in RULES}
        return [finding for finding in lint_model(model, **options) if finding.rule == rule]

    return find
