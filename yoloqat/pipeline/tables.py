"""The tables that show results to a person, made from the keys of ``result.json`` alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
    """Return the methods of ``compare`` by rising noise, with their drops, and what `per-layer` took.

    Args:
        title: Model, layers, bits.
        results: Of ``compare``.
    """
    scored = results["baseline"] is not None
    rows: list[tuple[str, ...]] = [("float", "0", number(results["baseline"]["map50_95"]), "-", "")] if scored else []
    taken = []
    models = results["methods"] + [row for row in [results.get("refined")] if row]
    for row in sorted(models, key=lambda row: (row["d"] is None, row["d"])):
        name = str(MethodSpec(row["method"], **row["params"]))
        mark = "best" if name == results["best"] else "tied" if name in results["tied"] else ""
        if row is results.get("refined"):
            name, mark = f"{name}, refined", ""
        cells = [name, noise_cell(row)]
        if scored:
            cells += [number(row["map50_95"]), f"{signed(row['drop'])} {interval(row['drop_ci95'])}"]
        else:
            cells.append(expected_cell(row))
        rows.append((*cells, mark))
        if "per_layer" in row:
            taken.append(per_layer_table(row["per_layer"]))
    last = ("mAP50-95", "drop, 95 % interval", "by mAP") if scored else ("expected drop of mAP", "by d")
    told = results["separated"]
    lines = [
        f"d: noise against the float model on {counted(results['fidelity_images'], 'image')}, lower is better; it "
        f"separates {told['by_noise']} of {counted(told['pairs'], 'pair')} of methods",
        f"recommended: {results['recommended']}, the least noise"
        + (" of those whose mAP is not significantly below the best" if scored else ""),
    ]
    confirmed = results["confirmed"]
    if confirmed is not None:
        drop = f"drop {signed(confirmed['drop'])} {interval(confirmed['drop_ci95'])}, " if scored else ""
        lines.append(
            f"chosen on one half of the images: {confirmed['method']}; on the other half {drop}d {noise_cell(confirmed)}"
        )
    heading = f"{title}, {counted(results['calibration_images'], 'calibration image')}"
    refined = [refine_table(results)] if "refine" in results else []
    return Table(heading, ("method", "d, 95 % interval", *last), tuple(rows), "\n".join(lines)), *refined, *taken


def noise_cell(row: dict[str, Any]) -> str:
    """Return a noise d with its interval, from the keys ``d`` and ``d_ci95`` of a result."""
    ends = row["d_ci95"]
    return number(row["d"], 3) if ends is None else f"{number(row['d'], 3)} [{ends[0]:.3f}, {ends[1]:.3f}]"


def expected_cell(row: dict[str, Any]) -> str:
    """Return the relative drop that is expected at a noise, with its band, in percent of the float model's mAP."""
    middle, band = row["expected_relative_drop"], row["expected_relative_drop_band"]
    return "-" if middle is None else f"{100 * middle:.1f} % ({100 * band[0]:.1f} to {100 * band[1]:.1f})"


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
            percent(item.get("share")),
        )
        for item in results["items"][:SHOWN_ITEMS]
    )
    summary = results["summary"]
    needed = summary["images_needed"]
    rest = f"; the others would need {needed['median']} images (median)" if needed and needed["median"] else ""
    known = ", ".join(f"{name} {value:+.2f}" for name, value in summary["proxies"].items() if value is not None)
    proxies = f"rank correlation with: {known}\n" if known else ""
    decided = f"{summary['differ_from_zero']} of {summary['items']} items differ from zero{rest}"
    adaptive = results["adaptive"]
    if adaptive is not None and adaptive["spent"] > adaptive["budget"]:
        spent = f"{adaptive['spent']:.2g} was spent"
        decided += f"\na scan cost of {adaptive['budget']:g} is less than one batch of images takes: {spent}"
    hidden = len(results["items"]) - len(rows)
    if hidden > 0:
        decided += f"\n{counted(hidden, 'more item')} not shown"
    return Table(
        f"{title}, {results['mode']}, {counted(results['evaluated_images'], 'image')}, effect on {results['metric']}",
        (results["granularity"], "rank", "effect", "95 % interval", "images", "tied", "noise"),
        rows,
        f"{decided}\n{proxies}{budget_line(results)}",
    )


def noise_table(title: str, results: dict[str, Any]) -> Table:
    """Return the noisiest items of ``sensitivity --mode noise`` with their shares.

    Args:
        title: The model.
        results: Of ``sensitivity``.
    """
    scored = "evaluated_images" in results
    rows, sum_of_shares = [], 0.0
    for item in results["items"][:SHOWN_ITEMS]:
        sum_of_shares += item["share"] or 0.0
        cells = (item["name"], noise_cell(item), percent(item["share"]), percent(sum_of_shares))
        drop = "-" if item.get("drop") is None else f"{signed(item['drop'])} {interval(item['effect_ci95'])}"
        rows.append((*cells, *([drop] if scored else [])))
    columns = (results["granularity"], "d alone, 95 % interval", "share", "sum")
    hidden = len(results["items"]) - len(rows)
    lines = [f"{counted(hidden, 'more item')} not shown"] if hidden > 0 else []
    heading = f"{title}, noise budget on {counted(results['images'], 'image')}; a larger share is worse"
    caption = "\n".join([*lines, budget_line(results), *curve_lines(results)])
    return Table(heading, (*columns, *(["mAP drop alone"] if scored else [])), tuple(rows), caption)


def budget_line(results: dict[str, Any]) -> str:
    """Return the noise of the whole, what the budget predicts of it, and what weights and activations make alone."""
    parts = [f"d {noise_cell(results)}", f"predicted by the sum of squares {number(results['d_predicted'], 3)}"]
    parts += [f"{name} alone {number(results[name]['d'], 3)}" for name in ("weights", "activations")]
    return ", ".join(parts)


def curve_lines(results: dict[str, Any]) -> list[str]:
    """Return the measured points of a noise curve, one line each."""
    images = f"{results['curve_images']} others" if results["curve_held_out"] else "the same images"
    lines = [f"first items float, d measured on {images}, multiply-adds in INT8:"]
    for point in results["curve"]:
        if point.get("d") is not None:
            lines.append(f"  {point['items']:3}  d {noise_cell(point)}  {percent(point['int8_mac_share'])}")
    return lines


def percent(share: float | None) -> str:
    """Return a share for a table; a dash where there is none."""
    return "-" if share is None else f"{100.0 * share:.1f} %"


def training_table(title: str, results: dict[str, Any]) -> Table:
    """Return the epochs of ``finetune`` and what they won back; without labels the noise alone.

    Args:
        title: The model.
        results: Of ``finetune``.
    """
    start, count = results["start"], len(results["epochs"])
    rows: list[tuple[str, ...]] = [("calibrated", "-", number(start["d"]), number(start["map50_95"]))]
    rows += [
        (str(row["epoch"]), number(row["loss"]), number(row["d"]), number(row["map50_95"])) for row in results["epochs"]
    ]
    won = f"best epoch {results['best_epoch']} ({results['best_reason']}): d {noise(results)}"
    won += f", {counted(results['fidelity_images'], 'image')}"
    if results["map_float"] is not None:
        rows = [("float", "-", "0", number(results["map_float"])), *rows]
        won += (
            f"\ndrop {signed(results['drop'])} {interval(results['drop_ci95'])}, "
            f"gain over calibration {signed(results['gain'])} {interval(results['gain_ci95'])}"
        )
    if results["best_epoch"] == 0:
        won += "\nno epoch was better than calibration, which is what best.safetensors holds"
    heading = f"{title}, {counted(count, 'epoch')}"
    shown = slice(None if results["map_float"] is not None else -1)
    columns: tuple[str, ...] = ("epoch", "loss", "d", "mAP50-95")
    return Table(heading, columns[shown], tuple(row[shown] for row in rows), won)


def scores_table(title: str, results: dict[str, Any]) -> Table:
    """Return the noise of ``calibrate``, its three mAPs and the drop, as far as they were measured.

    Args:
        title: Model, layers, method.
        results: Of ``calibrate``.
    """
    rows = [] if results["d"] is None else [(noise_label(results), noise(results))]
    if results["map_float"] is not None:
        swapped = results["map_swapped"]
        rows += [
            ("mAP50-95 float", number(results["map_float"])),
            *([] if swapped is None else [("mAP50-95 swapped, ranges of each tensor", number(swapped))]),
            ("mAP50-95 QFloat, calibrated", number(results["map_qfloat"])),
            ("drop, 95 % interval", f"{signed(results['drop'])} {interval(results['drop_ci95'])}"),
        ]
    name = results["backend"]["name"]
    caption = "" if name == BACKENDS[0] else f"calibrated by {name} {results['backend']['version']}"
    return Table(title, ("measure, lower d and drop are better", "value"), tuple(rows), caption)


def noise_label(results: Mapping[str, Any], of: str = "") -> str:
    """Return what a row with a noise is called: of which models, and on how many images.

    Args:
        results: With ``fidelity_images``.
        of: The models, where the table does not tell them.
    """
    return f"noise d{of and f' {of}'}, {counted(results['fidelity_images'], 'image')}, 95 % interval"


def noise(results: Mapping[str, Any], name: str = "d") -> str:
    """Return a noise with its interval for a table; a dash where it was not measured."""
    return (
        f"{number(results[name])} {interval(results[f'{name}_ci95'], sign=False)}"
        if results.get(name) is not None
        else "-"
    )


def refine_table(results: dict[str, Any]) -> Table:
    """Return the noise before and after every step of a refinement.

    Args:
        results: With the keys of :func:`yoloqat.pipeline.refine.refine_detector`.
    """
    rows = []
    for row in results["refine"]:
        change = "-" if row["d_change"] is None else f"{signed(row['d_change'])} {interval(row['d_change_ci95'])}"
        rows.append((row["step"], noise_cell(row), change, "yes" if row["accepted"] else "no"))
    caption = (
        f"d on {counted(results['refine_held_out'], 'calibration image')} held out of the refinement; lower is better"
    )
    return Table("refinement", ("step", "d", "change, 95 % interval", "kept"), tuple(rows), caption)


def curve_table(curve: Sequence[dict[str, Any]]) -> Table:
    """Return how ranges, noise and mAP settle with the number of calibration images, as far as they were measured.

    Args:
        curve: From :func:`yoloqat.pipeline.curve.settling_curve`.
    """
    columns = {
        "images": [str(entry["images"]) for entry in curve],
        "amax change": [f"{100 * entry['amax_change']:.1f} %" for entry in curve],
        "largest": [f"{100 * entry['amax_change_max']:.1f} %" for entry in curve],
    }
    scored, measured = (any(entry.get(name) is not None for entry in curve) for name in ("drop", "d"))
    if measured and scored:
        columns["d"] = [number(entry["d"]) for entry in curve]
    elif measured:
        columns["d, 95 % interval"] = [noise(entry) for entry in curve]
    if scored:
        columns["mAP50-95"] = [number(entry["map50_95"]) for entry in curve]
        columns["drop, 95 % interval"] = [f"{signed(entry['drop'])} {interval(entry['drop_ci95'])}" for entry in curve]
    return Table("calibration images", tuple(columns), tuple(zip(*columns.values(), strict=True)))


def ranges_table(title: str, ranges: dict[str, list[float]]) -> Table:
    """Return the lowest and the highest value that each quantizer of activations saw.

    Args:
        title: The model and the images.
        ranges: By quantizer.
    """
    rows = tuple((name, f"{low:.4g}", f"{high:.4g}") for name, (low, high) in ranges.items())
    return Table(title, ("quantizer", "lowest", "highest"), rows)


def quantize_tables(title: str, results: dict[str, Any]) -> tuple[Table, ...]:
    """Return what the whole way decided, and float, all in INT8 and the chosen engine side by side."""
    speed = {item["artifact"]: item for item in results["bench"]["items"]}

    def latency(name: str) -> str:
        return f"{speed[name]['latency_ms']['p50']:.2f}" if name in speed else "-"

    rows = [("float", number(results["map_float"]), "-", "-", "-", latency("float"), "-")]
    for row in results["candidates"]:
        share = row["int8_mac_share"]
        name = f"{row['name']} (chosen)" if row["name"] == results["chosen"] else row["name"]
        drop = f"{signed(row['drop'])} {interval(row['drop_ci95'])}"
        cells = (number(row["map50_95"]), drop, number(row["d"], 3), percent(share), latency(row["name"]))
        rows.append((name, *cells, str(len(row["float_layers"]))))
    columns = ("model", "mAP50-95", "drop, 95 % interval", "d", "in INT8", "p50 ms", "float layers")
    found = results["verdict"]
    told = f"verdict on {counted(found['images'], 'image')} that took no part: {found['verdict']}"
    decided = tuple((f"{row['step']}: {row['decision']}", row["reason"]) for row in results["decisions"])
    return (
        Table(f"{title}: what was decided", ("decision", "reason"), decided, left=(1,)),
        Table(f"{title}, calibrated by {results['method']}", columns, tuple(rows), told),
    )
