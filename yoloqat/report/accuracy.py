"""The parts of a report about mAP: models, methods, classes, training, the frontier of float sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yoloqat.report.charts import Point, Span, bars, line, plane
from yoloqat.report.figures import (
    Score,
    between,
    bounds,
    chosen_method,
    drop_note,
    expected,
    measure,
    measured,
    method_name,
    percent,
    scores,
    value,
)
from yoloqat.report.parts import Chart, Fact, Results, Section
from yoloqat.results import Table, number, signed


def scores_section(command: str, results: Results, model: str) -> Section | None:
    """Return the mAPs of all models, as facts, and their drops."""
    if command == "compare":  # whose table of methods tells them
        return None
    found = scores(command, results, model)
    if not found:
        return None
    facts = [Fact(f"{score.label}, mAP50-95", number(score.map50_95)) for score in found]
    drops = [
        Fact(f"drop of {score.label}", signed(score.drop), _of(score)) for score in found if score.drop is not None
    ]
    more = [
        Fact(
            label,
            measure(value(results, name)),
            f"95 % interval {between(bounds(results, interval))}" if interval else "",
        )
        for name, label, interval in (
            ("d", "noise d", "d_ci95" if bounds(results, "d_ci95") else ""),
            ("d_predicted", "noise d, predicted", ""),
            ("box_disagreement", "box disagreement", ""),
            ("mask_disagreement", "mask disagreement", ""),
            ("keypoint_disagreement", "keypoint disagreement", ""),
            ("score_shift", "shift of scores", ""),
            ("fidelity_map", "mAP against the float model's boxes", ""),
        )
        if value(results, name) is not None
    ]
    if value(results, "qfloat_difference") is not None:
        gap = Fact(
            "QFloat minus engine", signed(value(results, "qfloat_difference")), drop_note(results, "qfloat_difference")
        )
        more.append(gap)
    sizes = (
        ("map50", "mAP50"),
        ("map75", "mAP75"),
        ("map_small", "small"),
        ("map_medium", "medium"),
        ("map_large", "large"),
    )
    rows = tuple((label, number(value(results, name))) for name, label in sizes if name in results)
    reasons = results.get("undefined") or {}
    notes = tuple(f"{name}: {reason}" for name, reason in reasons.items() if name.startswith("map_"))
    tables = [Table("other thresholds and sizes of objects", ("metric", "mAP"), rows)] if rows else []
    task = results.get("task_metrics")
    if isinstance(task, dict):
        cells = tuple((name, number(value(task, name))) for name in task if name not in ("task", "images"))
        tables.append(Table(f"metrics of the task {task.get('task')}", ("metric", "value"), cells))
    return Section(
        "Accuracy", facts=(*facts, *drops, *more), charts=_drop_charts(found), tables=tuple(tables), notes=notes
    )


def _of(score: Score) -> str:
    return f"95 % interval {between(score.interval)}" if score.interval else score.note


def _drop_charts(found: Sequence[Score]) -> tuple[Chart, ...]:
    spans = [Span.of_difference(score.label, score.drop, score.interval) for score in found if score.drop is not None]
    title = "Drop of mAP50-95 against float, with 95 % intervals"
    return (bars(title, spans, axis="drop"),) if spans else ()


def methods_section(results: Results, *, title: str = "Calibration methods") -> Section | None:
    """Return the calibration methods by fidelity and by mAP."""
    methods = results.get("methods")
    if not methods:
        return None
    ordered = sorted(methods, key=_worth)
    names = [method_name(row) for row in ordered]
    drops = [
        Span.of_difference(name, drop, bounds(row, "drop_ci95"))
        for name, row in zip(names, ordered, strict=True)
        if (drop := value(row, "drop")) is not None
    ]
    noises = [
        Span(name, d, bounds(row, "d_ci95"))
        for name, row in zip(names, ordered, strict=True)
        if (d := value(row, "d")) is not None
    ]
    charts = [bars("Noise d of each method, the smallest first", noises, axis="d", form=".4~g")] if noises else []
    charts += [bars("Drop of each method, with 95 % intervals", drops, axis="drop")] if drops else []
    floating = value(results.get("baseline") or {}, "map50_95")
    return Section(
        title,
        "Tied methods are not significantly worse than the best." if results.get("best") else "",
        facts=() if floating is None else (Fact("Float, mAP50-95", number(floating)),),
        charts=tuple(charts),
        tables=(_method_table(ordered, results),),
        notes=_confirmed(results),
    )


def _method_table(rows: Sequence[Results], results: Results) -> Table:
    """Return all figures of all methods; columns that no method has are left out."""
    names = [method_name(row) for row in rows]
    tied = results.get("tied") or ()
    meant = {"best": [results.get("best")], "tied": tied, "recommended": [results.get("recommended")]}
    told = {
        "method": names,
        "d": [measure(value(row, "d")) for row in rows],
        "95 % interval of d": [_plain_interval(bounds(row, "d_ci95")) for row in rows],
        "mAP50-95": [number(value(row, "map50_95")) for row in rows],
        "drop": [signed(value(row, "drop")) for row in rows],
        "95 % interval": [between(bounds(row, "drop_ci95")) for row in rows],
        "drop to expect": [expected(row) or "-" for row in rows],
        "seconds": [number(value(row, "calibration_seconds"), 2) for row in rows],
        "": [", ".join(mark for mark, marked in meant.items() if name in marked) for name in names],
    }
    kept = {title: cells for title, cells in told.items() if set(cells) != {"-"}}
    return Table("methods", tuple(kept), tuple(zip(*kept.values(), strict=True)), left=(len(kept) - 1,))


def _worth(row: Results) -> tuple[float, float]:
    """Return what methods are ordered by: fidelity where it was measured, else mAP."""
    return value(row, "d") or 0.0, -(value(row, "map50_95") or 0.0)


def _plain_interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"[{measure(interval[0])}, {measure(interval[1])}]"


def _confirmed(results: Results) -> tuple[str, ...]:
    found = results.get("confirmed")
    if not isinstance(found, dict) or "method" not in found:
        return ()
    drop = f"its drop is {signed(value(found, 'drop'))}, {drop_note(found)}" if value(found, "drop") is not None else ""
    noise = f"its noise d {measured(found)}" if value(found, "d") is not None else ""
    told = "; ".join(part for part in (drop, noise) if part)
    return (f"Chosen on one half of the images: {found['method']}; on the other half {told}.",)


def classes_section(results: Results) -> Section | None:
    """Return the AP of each class, with its drop where a quantized model was scored too."""
    floating, quantized, label = _two_models(results)
    if not floating:
        return None
    if not quantized:
        rows = [(name, row, None) for name, row in floating.items()]
        table = _class_table(rows)
        spans = [Span(name, score) for name, row, _ in rows if (score := value(row, "map50_95")) is not None]
        spans.sort(key=lambda span: -span.value)
        charts = (bars("AP50-95 of each class", spans, axis="AP50-95"),) if spans else ()
        return Section("Classes", charts=charts, folded=(table,))
    pairs = [(name, row, quantized.get(name)) for name, row in floating.items()]
    drops = [(name, drop) for name, row, other in pairs if (drop := _class_drop(row, other)) is not None]
    spans = [Span(name, drop) for name, drop in sorted(drops, key=lambda entry: -entry[1])]
    charts = (bars(f"Drop of AP50-95 of each class, {label}", spans, axis="drop"),) if spans else ()
    text = "Drops of single classes have no interval: with few objects of a class they are mostly noise."
    return Section("Classes", text, charts=charts, folded=(_class_table(pairs),))


def _two_models(results: Results) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return the classes of a model, those of the quantized model to set beside it, and the name of that."""
    if results.get("per_class"):
        return results["per_class"], {}, ""
    floating = (results.get("baseline") or {}).get("per_class") or {}
    if isinstance(results.get("quantized"), dict):
        return floating, results["quantized"].get("per_class") or {}, "quantized"
    best = chosen_method(results) if results.get("methods") else None
    return floating, ((best or {}).get("metrics") or {}).get("per_class") or {}, str(results.get("best"))


def _class_drop(row: Results, other: Results | None) -> float | None:
    ends = value(row, "map50_95"), value(other or {}, "map50_95")
    return None if ends[0] is None or ends[1] is None else ends[0] - ends[1]


def _class_table(rows: Sequence[tuple[str, Results, Results | None]]) -> Table:
    second = any(other is not None for _, _, other in rows)
    cells = []
    for name, row, other in rows:
        objects = row.get("annotations")
        more = [number(value(other or {}, "map50_95")), signed(_class_drop(row, other))] if second else []
        found = [number(value(row, key)) for key in ("map50_95", "map50")]
        cells.append((name, "-" if objects is None else str(objects), *found, *more))
    columns = ("class", "objects", "AP50-95", "AP50", *(("quantized AP50-95", "drop") if second else ()))
    return Table("all classes", columns, tuple(cells))


def training_section(results: Results) -> Section | None:
    """Return the epochs of a fine-tuning."""
    epochs = results.get("epochs")
    if not epochs:
        return None
    levels = [("float", value(results, "map_float")), ("calibrated", value(results.get("start") or {}, "map50_95"))]
    known = [(name, height) for name, height in levels if height is not None]
    charts = []
    for name, title, form in (("map50_95", "mAP50-95", ".4~f"), ("d", "noise d", ".4~g"), ("loss", "loss", ".4~g")):
        points = [(float(row["epoch"]), y) for row in epochs if (y := value(row, name)) is not None]
        if points:
            marks = known if name == "map50_95" else []
            charts.append(line(f"{title} after each epoch", points, axes=("epoch", title), form=form, levels=marks))
    facts = [Fact("best epoch", str(results.get("best_epoch", "-")))]
    if value(results, "gain") is not None:
        facts.append(Fact("gain over calibration", signed(value(results, "gain")), drop_note(results, "gain")))
    if value(results, "won_back") is not None:
        facts.append(Fact("of the drop won back", percent(value(results, "won_back"), 0)))
    rows = tuple(
        (str(row["epoch"]), number(value(row, "map50_95")), measure(value(row, "d")), measure(value(row, "loss")))
        for row in epochs
    )
    table = Table("epochs", ("epoch", "mAP50-95", "d", "loss"), rows)
    return Section("Fine-tuning", facts=tuple(facts), charts=tuple(charts), folded=(table,))


_FIGURES = (
    ("latency_ms", "latency, ms", ".4~r"),
    ("latency_predicted_ms", "predicted latency, ms", ".4~r"),
    ("int8_mac_share", "share of multiply-adds in INT8", ".0%"),
)
_COSTS = (("drop", "drop", ".4~f"), ("d", "noise d", ".4~g"), ("d_predicted", "predicted noise d", ".4~g"))


def frontier_section(results: Results) -> Section | None:
    """Return the sets of float layers along the frontier of drop, noise and latency."""
    sets = results.get("frontier")
    if not sets:
        return None
    charts = []
    for cost, title, form in _COSTS:
        figures = _FIGURES[1:] if cost == "d_predicted" else _FIGURES  # predictions beside predictions
        good = next((entry for entry in figures if all(value(row, entry[0]) is not None for row in sets)), None)
        if good is None or any(value(row, cost) is None for row in sets):
            continue
        points = [
            Point(_layers_text(row), float(row[good[0]]), float(row[cost]), bounds(row, f"{cost}_ci95")) for row in sets
        ]
        charts.append(
            plane(f"{title[0].upper()}{title[1:]} over {good[1]}", points, axes=(good[1], title), forms=(good[2], form))
        )
    chosen = results.get("float_layers")
    cells = {
        "float layers": [
            f"{_layers_text(row)}{' (chosen)' if chosen == row.get('float_layers') is not None else ''}" for row in sets
        ],
        "mAP50-95": [number(value(row, "map50_95")) for row in sets],
        "drop": [number(value(row, "drop")) for row in sets],
        "95 % interval": [between(bounds(row, "drop_ci95")) for row in sets],
        "d": [measure(value(row, "d")) for row in sets],
        "predicted d": [measure(value(row, "d_predicted")) for row in sets],
        "INT8 multiply-adds": [percent(value(row, "int8_mac_share")) for row in sets],
        "ms": [measure(value(row, "latency_ms")) for row in sets],
        "predicted ms": [measure(value(row, "latency_predicted_ms")) for row in sets],
    }
    table = Table(
        "sets of float layers", tuple(cells), tuple(zip(*cells.values(), strict=True))
    ).without_empty_columns()
    text = (
        "Each point is a set of layers left float, built and measured. By the predictions no set between two neighbours is "
        "better than both; what is measured can differ from them."
    )
    if results.get("latency_measured") is False:
        text += f" Latency by {results.get('latency_source')}, predicted: no engine was timed here."
    return Section("Frontier", text, charts=tuple(charts), tables=(table,))


def _layers_text(row: Results) -> str:
    layers = row.get("float_layers")
    if isinstance(layers, list | tuple):
        return (
            f"{len(layers)}: {', '.join(map(str, layers[:3]))}{', ...' if len(layers) > 3 else ''}"
            if layers
            else "none"
        )
    return "-" if layers is None else str(layers)
