"""What is wrong with a QDQ ONNX file, found from the file alone: no engine, no GPU, no torch."""

from yoloqat.lint.finding import Finding, Severity
from yoloqat.lint.registry import RULES
from yoloqat.lint.rule import Rule, Source
from yoloqat.lint.run import lint_file, lint_model, lint_results
from yoloqat.lint.sarif import to_sarif
from yoloqat.lint.tables import rules_table
from yoloqat.lint.target import TARGETS, TENSORRT_10, TENSORRT_11, Target

__all__ = [
    "RULES",
    "TARGETS",
    "TENSORRT_10",
    "TENSORRT_11",
    "Finding",
    "Rule",
    "Severity",
    "Source",
    "Target",
    "lint_file",
    "lint_model",
    "lint_results",
    "rules_table",
    "to_sarif",
]
