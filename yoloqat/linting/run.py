"""The lint itself: a model or a file in, findings out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from yoloqat.errors import ModelError
from yoloqat.linting.finding import Finding, Severity
from yoloqat.linting.graph import prepare
from yoloqat.linting.registry import RULES
from yoloqat.linting.trt_version import TENSORRT_10, TensorRTVersion
from yoloqat.onnx_graph.file import EXPECTED, read_onnx


def read_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data, whatever its graph is worth.

    Raises:
        ModelError: The file or its external data cannot be read, or it is no ONNX file.
    """
    model = read_onnx(path)
    if not model.ir_version and not model.opset_import:
        raise ModelError(
            f"'{path}' has no IR version and no operators", expected=EXPECTED, hint="export it again, it may be empty"
        )
    return model


def lint_model(model: onnx.ModelProto, *, trt_version: TensorRTVersion = TENSORRT_10) -> list[Finding]:
    """Apply all rules to a model; nothing is run and the model is not changed.

    Args:
        model: Anybody's model; external data must be loaded.
        trt_version: The TensorRT that will read the file.

    Returns:
        Findings in the order of :data:`yoloqat.linting.RULES`: errors, then warnings, then notes. A rule gives one
        finding for each kind of trouble, with all nodes that have it.
    """
    graph = prepare(model, trt_version)
    return [
        Finding(rule.id, rule.severity, hit.nodes, hit.message, rule.hint)
        for rule in RULES
        for hit in rule.check(graph)
    ]


def lint_file(path: Path, *, trt_version: TensorRTVersion = TENSORRT_10) -> list[Finding]:
    """Read an ONNX file and apply all rules.

    Args:
        path: The file; external data lies beside it.
        trt_version: The TensorRT that will read the file.

    Raises:
        ModelError: The file cannot be read or is no ONNX file.
    """
    return lint_model(read_model(path), trt_version=trt_version)


def count(findings: Sequence[Finding], severity: Severity) -> int:
    """Return how many of ``findings`` are of ``severity``."""
    return sum(finding.severity is severity for finding in findings)


def lint_results(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return findings as the JSON-able part of a result.

    Returns:
        ``errors``, ``warnings`` and ``notes`` are counts of findings; ``findings`` is a list of
        ``{rule, severity, nodes, message, hint}``.
    """
    return {
        "errors": count(findings, Severity.ERROR),
        "warnings": count(findings, Severity.WARNING),
        "notes": count(findings, Severity.NOTE),
        "findings": [finding.to_dict() for finding in findings],
    }
