"""The tables that show results to a person, made from the keys of ``result.json`` alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from yoloqat.calibration.nvidia import BACKENDS
from yoloqat.config import MethodSpec
from yoloqat.results import Table, counted, interval, number, signed

SHOWN_ITEMS = 20
"""Rows of a ranking that a person is shown; the files hold all."""


def methods_taken(per_layer: dict[str, Any]) -> dict[str, int]:
    """Return how many quantizers took each method, the most frequent first.

    Args:
        per_layer: The key of that name of a result.
    """
    return dict(Counter(entry["method"] for entry in per_layer.values()).most_common())


def per_layer_table(per_layer: dict[str, Any]) -> Table:
    """Return how many quantizers took each method."""
    rows = tuple((name, str(count)) for name, count in methods_taken(per_layer).items())
    return Table("per-layer", ("method", "quantizers"), rows)


def comparison_tables(title: str, results: dict[str, Any]) -> tuple[Table, ...]:
    """Return the methods of ``compare`` with drops and intervals, and what `per-layer` took.

    Args:
        title: Model, layers, bits.
        results: Of ``compare``.
    """
    rows = [("float", number(results["baseline"]["map50_95"]), "-", "-", "-", "")]
    taken = []
    for row in results["methods"]:
        name = str(MethodSpec(row["method"], **row["params"]))
        mark = "best" if name == results["best"] else "tied" if name in results["tied"] else ""
        rows.append(
            (
                name,
                number(row["map50_95"]),
                signed(row["drop"]),
                interval(row["drop_ci95"]),
                number(row["search_seconds"], 2),
                mark,
            )
        )
        if "per_layer" in row:
            taken.append(per_layer_table(row["per_layer"]))
    confirmed, caption = results["confirmed"], ""
    if confirmed is not None:
        caption = (
            f"tied: not significantly worse than the best. Chosen on one half of the images: {confirmed['method']}; "
            f"its drop on the other half {signed(confirmed['drop'])} {interval(confirmed['drop_ci95'])}"
        )
    columns = ("method", "mAP50-95", "drop", "95 % interval", "search s", "")
    return Table(f"{title}, {results['calibration_images']} calibration images", columns, tuple(rows), caption), *taken


def ranking_table(title: str, results: dict[str, Any]) -> Table:
    """Return the first items of ``sensitivity`` with effects and intervals.

    Args:
        title: The model.
        results: Of ``sensitivity``.
    """
    rows = tuple(
        (
            item["name"],
            str(item["rank"]),
            signed(item["effect"]),
            interval(item["effect_ci95"]),
            str(item["images"]),
            str(item["tied_with"]),
            number(item["sqnr_db"], 1),
        )
        for item in results["items"][:SHOWN_ITEMS]
    )
    summary = results["summary"]
    needed = summary["images_needed"]
    rest = f"; the others would need {needed['median']} images (median)" if needed and needed["median"] else ""
    proxies = ", ".join(f"{name} {value:+.2f}" for name, value in summary["proxies"].items() if value is not None)
    decided = f"{summary['differ_from_zero']} of {summary['items']} items differ from zero{rest}"
    hidden = len(results["items"]) - len(rows)
    if hidden > 0:
        decided += f"\n{hidden} more items are in items.csv"
    return Table(
        f"{title}, {results['mode']}, {results['evaluated_images']} images, effect on {results['metric']}",
        (results["granularity"], "rank", "effect", "95 % interval", "images", "tied", "SQNR dB"),
        rows,
        f"{decided}\nrank correlation with: {proxies}",
    )


def training_table(title: str, results: dict[str, Any]) -> Table:
    """Return the epochs of ``finetune`` and what they won back.

    Args:
        title: The model.
        results: Of ``finetune``.
    """
    rows = [("float", "-", number(results["map_float"])), ("calibrated", "-", number(results["start"]["map50_95"]))]
    rows += [(str(row["epoch"]), number(row["loss"]), number(row["map50_95"])) for row in results["epochs"]]
    count = len(results["epochs"])
    won = (
        f"best epoch {results['best_epoch']}: drop {signed(results['drop'])} {interval(results['drop_ci95'])}, "
        f"gain over calibration {signed(results['gain'])} {interval(results['gain_ci95'])}"
    )
    if results["best_epoch"] == 0:
        won += "; no epoch was better than calibration, which is what best.safetensors holds"
    heading = f"{title}, {counted(count, 'epoch')}"
    return Table(heading, ("epoch", "loss", "mAP50-95"), tuple(rows), won)


def scores_table(title: str, results: dict[str, Any]) -> Table:
    """Return the three mAPs of ``calibrate`` and the drop.

    Args:
        title: Model, layers, method.
        results: Of ``calibrate``, scored.
    """
    rows = (
        ("float", number(results["map_float"])),
        ("swapped, ranges of each tensor", number(results["map_swapped"])),
        ("QFloat, calibrated", number(results["map_qfloat"])),
        ("drop, 95 % interval", f"{signed(results['drop'])} {interval(results['drop_ci95'])}"),
    )
    name = results["backend"]["name"]
    caption = "" if name == BACKENDS[0] else f"calibrated by {name} {results['backend']['version']}"
    return Table(title, ("model", "mAP50-95"), rows, caption)


def curve_table(curve: Sequence[dict[str, Any]]) -> Table:
    """Return how ranges and mAP settle with the number of calibration images.

    Args:
        curve: From :func:`yoloqat.pipeline.curve.settling_curve`.
    """
    rows = []
    for entry in curve:
        drop = f"{signed(entry['drop'])} {interval(entry['drop_ci95'])}" if "drop" in entry else "-"
        changes = [f"{100 * entry[name]:.1f} %" for name in ("amax_change", "amax_change_max")]
        rows.append((str(entry["images"]), *changes, number(entry.get("map50_95")), drop))
    columns = ("images", "amax change", "largest", "mAP50-95", "drop, 95 % interval")
    return Table("calibration images", columns, tuple(rows))


def ranges_table(title: str, ranges: dict[str, list[float]]) -> Table:
    """Return the lowest and the highest value that each quantizer of activations saw.

    Args:
        title: The model and the images.
        ranges: By quantizer.
    """
    rows = tuple((name, f"{low:.4g}", f"{high:.4g}") for name, (low, high) in ranges.items())
    return Table(title, ("quantizer", "lowest", "highest"), rows)
