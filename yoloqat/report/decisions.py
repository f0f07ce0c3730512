"""The part of a report about the whole way: what was decided at each step, and the engines that were tried."""

from __future__ import annotations

from yoloqat.report.figures import between, bounds, few, measure, percent, value
from yoloqat.report.parts import Results, Section
from yoloqat.results import Table, number, signed


def decisions_section(results: Results) -> Section | None:
    """Return what was decided with its reasons, and the candidates side by side."""
    decisions = results.get("decisions")
    if not isinstance(decisions, list):
        return None
    taken = tuple((str(row["step"]), str(row["decision"]), str(row["reason"])) for row in decisions)
    rows = tuple(
        (
            str(row["name"]),
            number(value(row, "map50_95")),
            signed(value(row, "drop")),
            between(bounds(row, "drop_ci95")) if bounds(row, "drop_ci95") else "-",
            measure(value(row, "d")),
            percent(value(row, "int8_mac_share")),
            few(row["float_layers"]) if row["float_layers"] else "none",
        )
        for row in results.get("candidates") or ()
    )
    columns = ("engine", "mAP50-95", "drop", "95 % interval", "d", "multiply-adds in INT8", "float layers")
    return Section(
        "Decisions",
        "One half of the images chooses, the other gives the verdict.",
        tables=(
            Table("what was decided, and why", ("step", "decision", "reason"), taken, left=(1, 2)),
            Table("engines that were measured, on all images", columns, rows, left=(6,)),
        ),
    )
