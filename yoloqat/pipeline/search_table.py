"""What a search found, as a table and as a picture."""

from __future__ import annotations

from pathlib import Path

from yoloqat.pipeline.search import SearchResult
from yoloqat.report.figures import goal_text
from yoloqat.report.frontier import BuiltSet, draw_frontier
from yoloqat.results import Table, counted, interval, number, signed

CHART = "frontier.png"


def search_table(found: SearchResult) -> Table:
    """Return the sets that were built as a table, by rising latency; the chosen one has a mark."""
    results = found.results
    rows = []
    for row in results["frontier"]:
        mark = " <" if row["float_layers"] == results["float_layers"] else ""
        rows.append(
            (
                f"{len(row['float_layers'])}{mark}",
                number(row["d_predicted"]),
                number(row["d_choosing"]),
                number(row["d"]),
                number(row["latency_predicted_ms"], 2),
                number(row["latency_ms"], 2),
                f"{100.0 * row['int8_mac_share']:.1f} %",
            )
        )
    columns = (
        "float",
        "predicted d",
        "d, choosing",
        "d, confirming",
        "predicted ms",
        "ms",
        "in INT8",
    )
    drop = "" if results["drop"] is None else f", drop {signed(results['drop'])} {interval(results['drop_ci95'])}"
    measured = "" if results["latency_measured"] else ", predicted: no engine was timed here"
    caption = f"< {goal_text(results)}{drop}; latency by {results['latency_source']}{measured}"
    model, images = Path(found.engines.model.source["path"]).name, counted(results["confirming_images"], "image")
    title = f"{model}, {results['engine']}: layers left float; {images} that confirm"
    return Table(title, columns, tuple(rows), caption)


def draw(found: SearchResult, out: Path) -> None:
    """Write the picture of the frontier.

    Raises:
        OutputError: The file cannot be written.
    """
    results = found.results
    built = []
    for row in results["frontier"]:
        low, high = row.get("d_ci95") or [row["d"]] * 2
        if row["d"] is not None:
            built.append(
                BuiltSet(
                    str(len(row["float_layers"])),
                    row["latency_predicted_ms"] if row["latency_ms"] is None else row["latency_ms"],
                    row["d"],
                    low,
                    high,
                    chosen=row["float_layers"] == results["float_layers"],
                )
            )
    name, value = next(iter(results["goal"].items()))
    limit = ("ms", value) if name == "max_latency" else ("d", results["goal_d"])
    title = f"{Path(found.engines.model.source['path']).name}, {results['engine']}: layers left float"
    line = [(point["latency_predicted_ms"], point["d_predicted"]) for point in results["frontier_predicted"]]
    draw_frontier(line, built, out / CHART, title=title, limit=limit)
