"""Findings in SARIF, the format in which code hosts and CI systems show what linters find."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from yoloqat.linting.finding import Finding
from yoloqat.linting.registry import RULES
from yoloqat.linting.rule import Rule

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_HELP = "docs/lint.md"
_WHOLE = {"startLine": 1}
"""A binary file has no lines, but code hosts show a result at one."""


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.reason},
        "help": {"text": f"{rule.reason} {rule.hint}. Source: {rule.source.title}, {rule.source.url}"},
        "helpUri": rule.source.url,
        "properties": {"documentation": f"{_HELP}#{rule.id}"},
        "defaultConfiguration": {"level": str(rule.severity)},
    }


def _result(finding: Finding, artifact: str) -> dict[str, Any]:
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": artifact}, "region": _WHOLE}}
    if finding.nodes:
        location["logicalLocations"] = [{"fullyQualifiedName": name, "kind": "node"} for name in finding.nodes]
    return {
        "ruleId": finding.rule,
        "ruleIndex": [rule.id for rule in RULES].index(finding.rule),
        "level": str(finding.severity),
        "message": {"text": f"{finding.message}; {finding.hint}"},
        "locations": [location],
    }


def to_sarif(findings: Sequence[Finding], artifact: Path) -> dict[str, Any]:
    """Return findings as a SARIF 2.1.0 log with one run.

    Args:
        findings: What the lint found in one file.
        artifact: The file. A relative path stays one, as code hosts want it for files of a repository; an absolute one
            becomes a ``file:`` URI.

    Returns:
        JSON-able values. Levels are SARIF's own words: error, warning, note. Nodes are logical locations.
    """
    uri = artifact.as_uri() if artifact.is_absolute() else quote(artifact.as_posix())
    driver = {"name": "yoloqat lint", "semanticVersion": _version(), "rules": [_rule(rule) for rule in RULES]}
    run = {"tool": {"driver": driver}, "results": [_result(finding, uri) for finding in findings]}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _version() -> str:
    try:
        return metadata.version("yoloqat")
    except metadata.PackageNotFoundError:
        return "0.0.0"
