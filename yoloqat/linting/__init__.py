"""What is wrong with a QDQ ONNX file, found from the file alone: no engine, no GPU, no torch."""

from yoloqat.linting.finding import Finding, Severity
from yoloqat.linting.registry import RULES
from yoloqat.linting.rule import Rule, Source
from yoloqat.linting.run import lint_file, lint_model, lint_results
from yoloqat.linting.sarif import to_sarif
from yoloqat.linting.tables import findings_table, rules_table
from yoloqat.linting.trt_version import TENSORRT_10, TENSORRT_11, TRT_VERSIONS, TensorRTVersion

__all__ = [
    "RULES",
    "TENSORRT_10",
    "TENSORRT_11",
    "TRT_VERSIONS",
    "Finding",
    "Rule",
    "Severity",
    "Source",
    "TensorRTVersion",
    "findings_table",
    "lint_file",
    "lint_model",
    "lint_results",
    "rules_table",
    "to_sarif",
]
