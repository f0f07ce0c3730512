"""Several results side by side: float, quantized and engine of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from yoloqat.report.charts import Span, bars
from yoloqat.report.figures import Score, between, bounds, chosen_method, measure, method_name, scores, value
from yoloqat.report.parts import Section
from yoloqat.results import Table, number, signed


def summary_rows(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return float, quantized and engine of each of several results.

    Args:
        parts: What the files ``result.json`` hold, each with its ``directory``.

    Returns:
        For each ``directory, command, model, float, quantized, engine, drop, drop_ci95, d``; null where a result has none.
        Of `compare` it is the best method.
    """
    return [_row(part) for part in parts]


def _row(part: Mapping[str, Any]) -> dict[str, Any]:
    results, command = part["results"], str(part["command"])
    model = ((part.get("provenance") or {}).get("inputs") or {}).get("model")
    path = str(model.get("path", "")) if isinstance(model, dict) else ""
    try:
        found, noise = scores(command, results, path), value(results, "d")
        if command == "compare":
            best = chosen_method(results)
            found = [score for score in found if best is None or score.label in ("Float", method_name(best))]
            noise = value(best or {}, "d")
    except (AttributeError, KeyError, TypeError, ValueError):  # not as documented, which the part of its own says
        found, noise = [], None
    last = next((score for score in reversed(found) if score.drop is not None), None)
    row: dict[str, Any] = {"directory": str(part.get("directory", "")), "command": command, "model": path}
    for role, name in (("float", "float"), ("qfloat", "quantized"), ("engine", "engine")):
        row[name] = _last(found, role)
    row["drop"] = None if last is None else last.drop
    row["drop_ci95"] = None if last is None or last.interval is None else list(last.interval)
    return row | {"d": noise}


def _last(found: Sequence[Score], role: str) -> float | None:
    return next((score.map50_95 for score in reversed(found) if score.role == role), None)


def summary_section(parts: Sequence[Mapping[str, Any]]) -> Section:
    """Return the table and the plot of several results."""
    rows = summary_rows(parts)
    cells = tuple(
        (
            row["directory"],
            row["command"],
            PurePath(row["model"]).name or "-",
            *(number(row[name]) for name in ("float", "quantized", "engine")),
            signed(row["drop"]),
            between(bounds(row, "drop_ci95")),
            measure(row["d"]),
        )
        for row in rows
    )
    columns = ("directory", "command", "model", "float", "quantized", "engine, ONNX", "drop", "95 % interval", "d")
    spans = [
        Span.of_difference(row["directory"], row["drop"], row["drop_ci95"]) for row in rows if row["drop"] is not None
    ]
    charts = (bars("Drop of mAP50-95 of each, with 95 % intervals", spans, axis="drop"),) if spans else ()
    return Section("Summary", charts=charts, tables=(Table("mAP50-95", columns, cells, left=(1, 2)),))
