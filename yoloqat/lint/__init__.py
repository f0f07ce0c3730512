"""What is wrong with a QDQ ONNX file, found from the file alone: no engine, no GPU, no torch."""

from yoloqat.export.lint.finding import Finding, Severity
from yoloqat.export.lint.registry import RULES
from yoloqat.export.lint.rule import Rule, Source
from yoloqat.export.lint.run import lint_file, lint_model, lint_results
from yoloqat.export.lint.sarif import to_sarif
from yoloqat.export.lint.tables import rules_table
from yoloqat.export.lint.target import TARGETS, TENSORRT_10, TENSORRT_11, Target

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
