"""The parts of a report about noise: the budget, its curve, the items of a scan with their effects, and refinement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from yoloqat.report.charts import Point, Span, bars, line, shares
from yoloqat.report.figures import between, bounds, expected, few, layer_count, measure, measured, percent, value
from yoloqat.report.histograms import histograms_of, quantizer_names
from yoloqat.report.parts import Chart, Fact, Results, Section
from yoloqat.results import Table, counted, number, signed

_TELLS = "Point at a bar, or click an item's name in the table: the histograms of its quantizers with their clip lines."


def budget_section(results: Results) -> Section | None:
    """Return whose noise it is: the share of every item, and what leaving the noisiest float would leave."""
    items = results.get("items") or []
    parts = [(str(item["name"]), share) for item in items if (share := value(item, "share")) is not None]
    parts.sort(key=lambda part: -part[1])  # a scan ranks its items by effect
    curve = results.get("curve") or []
    charts = [shares("Share of the noise of each item, and their sum", parts)] if parts else []
    charts += _curve_charts(curve)
    if not charts:
        return None
    table = Table("noise that is left", *_curve_rows(curve))
    return Section(
        "Noise budget",
        "d is the noise of the quantized model against the float model: how far its class probabilities move, before NMS.",
        tuple(_budget_facts(results, parts)),
        tuple(charts),
        folded=(table,) if table.rows else (),
        notes=(*_chosen(results), *([_TELLS] if results.get("histograms") else [])),
        histograms=histograms_of(results),
    )


def _budget_facts(results: Results, parts: Sequence[tuple[str, float]]) -> Iterator[Fact]:
    images = results.get("images")
    where = f"on {counted(images, 'image')}" if isinstance(images, int) else ""
    if value(results, "d") is not None:
        interval = bounds(results, "d_ci95")
        ends = f"95 % interval [{measure(interval[0])}, {measure(interval[1])}]" if interval else ""
        yield Fact("noise d", measure(value(results, "d")), ", ".join(part for part in (ends, where) if part))
    if value(results, "d_predicted") is not None:
        yield Fact("d predicted", measure(value(results, "d_predicted")), "from each part alone")
    for name in ("weights", "activations"):
        alone = results.get(name)
        if isinstance(alone, dict) and value(alone, "d") is not None:
            yield Fact(f"d of {name} alone", measure(value(alone, "d")))
    if (half := _first_reaching(parts, 0.5)) is not None:
        yield Fact("items that make half of the noise", f"{half} of {len(parts)}")
    if (drop := expected(results)) is not None:
        yield Fact(
            "drop of mAP to expect", drop.partition(" (")[0], f"by rule of thumb, {drop.partition(' (')[2][:-1]}"
        )


def _chosen(results: Results) -> tuple[str, ...]:
    """Return which layers the ignore list names, and why."""
    layers = results.get("ignore")
    if not isinstance(layers, list):
        return ()
    reason = str(results.get("ignore_reason") or "no reason told")
    return (f"ignore.txt leaves {counted(len(layers), 'layer')} float ({few(layers) or 'none'}): {reason}.",)


def _curve_rows(curve: Sequence[Results]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the columns and the rows of a curve; what no point has is left out."""
    told = {
        "float layers": [
            str(found) if (found := layer_count(p.get("float_layers"))) is not None else "-" for p in curve
        ],
        "the last of them": [str(p.get("name") or "-") for p in curve],
        "predicted d": [measure(value(p, "d_predicted")) for p in curve],
        "estimated d": [measure(value(p, "d_estimated")) for p in curve],
        "measured d": [measured(p) for p in curve],
        "INT8 multiply-adds": [percent(value(p, "int8_mac_share")) for p in curve],
        "drop to expect": [expected(p) or "-" for p in curve],
    }
    kept = {title: cells for title, cells in told.items() if set(cells) != {"-"}}
    return tuple(kept), tuple(zip(*kept.values(), strict=True))


def _first_reaching(parts: Sequence[tuple[str, float]], share: float) -> int | None:
    total = 0.0
    for number_of, (_, part) in enumerate(parts, start=1):
        total += part
        if total >= share:
            return number_of
    return None


def _curve_charts(curve: Sequence[Results]) -> list[Chart]:
    """Return the noise and the INT8 coverage over the number of layers that are left float."""
    noise = "d_estimated" if any(value(point, "d_estimated") is not None for point in curve) else "d_predicted"
    charts = []
    for name, title, form in (
        (noise, f"{noise.removeprefix('d_')} noise d", ".4~g"),
        ("int8_mac_share", "share of multiply-adds in INT8", ".0%"),
    ):
        points = [(layers, y) for point in curve for layers, y in _at(point, name)]
        points.sort()
        own = (
            [Point("measured", x, y, bounds(p, "d_ci95")) for p in curve for x, y in _at(p, "d")]
            if name == noise
            else []
        )
        if points:
            head = f"{title[0].upper()}{title[1:]} as the noisiest layers are left float"
            head += ", and as measured" if own else ""
            charts.append(line(head, points, axes=("float layers", title), form=form, measured=own, zero=True))
    return charts


def _at(point: Results, name: str) -> list[tuple[float, float]]:
    """Return a figure of a point of the curve over its number of float layers; nothing where one of them is missing."""
    layers, y = layer_count(point.get("float_layers")), value(point, name)
    return [] if layers is None or y is None else [(float(layers), y)]


def items_section(results: Results) -> Section | None:
    """Return the items of a scan: their effects on mAP, and all figures of each in a table to sort."""
    items = results.get("items") or []
    if not items or not any(name in items[0] for name in ("effect", "share", "quantizers")):
        return None  # the items of a bench are others
    effects = [
        Span.of_difference(str(item["name"]), effect, bounds(item, "effect_ci95"))
        for item in items
        if (effect := value(item, "effect")) is not None
    ]
    metric = str(results.get("metric") or "mAP50-95")
    charts = (bars(f"Effect of each item on {metric}, with 95 % intervals", effects, axis="effect"),) if effects else ()
    text = "Pale bars cannot be told from zero." if effects else ""
    summary = results.get("summary") or {}
    facts = []
    if "differ_from_zero" in summary:
        facts.append(Fact("items that differ from zero", f"{summary['differ_from_zero']} of {summary['items']}"))
    needed = (summary.get("images_needed") or {}).get("median")
    if needed:
        facts.append(Fact("images the others would need", str(needed), "median"))
    if results.get("evaluated_images"):
        facts.append(Fact("images", str(results["evaluated_images"])))
    notes = tuple(_proxies(summary))
    return Section("Items", text, tuple(facts), charts, tables=(_items_table(items),), notes=notes)


def _proxies(summary: Results) -> list[str]:
    known = {name: found for name, found in (summary.get("proxies") or {}).items() if found is not None}
    if not known:
        return []
    return [
        "Rank correlation of the effects with: " + ", ".join(f"{name} {found:+.2f}" for name, found in known.items())
    ]


_COLUMNS: tuple[tuple[str, str], ...] = (
    ("d", "d"),
    ("share", "share"),
    ("map50_95", "mAP50-95"),
    ("drop", "drop"),
    ("effect", "effect"),
    ("images", "images"),
    ("tied_with", "tied"),
    ("sqnr_db", "SQNR dB"),
)
_INTERVALS = {"d": "d_ci95", "effect": "effect_ci95"}


def _items_table(items: Sequence[Results]) -> Table:
    kept = [(key, title) for key, title in _COLUMNS if any(item.get(key) is not None for item in items)]
    columns = ["name"]
    for key, title in kept:
        columns += [title, f"95 % interval of {title}"] if key in _INTERVALS else [title]
    columns.append("quantizers")
    rows = []
    for item in items:
        cells = [str(item["name"])]
        for key, _ in kept:
            cells.append(_cell(key, item))
            if key in _INTERVALS:
                interval = bounds(item, _INTERVALS[key])
                plain = f"[{measure(interval[0])}, {measure(interval[1])}]" if interval else "-"
                cells.append(plain if key == "d" else between(interval))
        rows.append((*cells, few(_quantizers(item))))
    return Table(f"all {counted(len(items), 'item')}", tuple(columns), tuple(rows), left=(len(columns) - 1,))


def _quantizers(item: Results) -> list[str] | None:
    """Return the quantizers of an item by what they quantize, inside the item, e.g. ``cv1.conv input``."""
    found = item.get("quantizers")
    return quantizer_names(item) if isinstance(found, list) else None


def _cell(key: str, item: Results) -> str:
    found = value(item, key)
    if key == "d":
        return measure(found)
    if key == "share":
        return percent(found, 2)
    if key in ("drop", "effect"):
        return signed(found)
    if key == "sqnr_db":
        return number(found, 1)
    return "-" if found is None else number(found) if key == "map50_95" else f"{found:.0f}"


def refinement_section(results: Results) -> Section | None:
    """Return how the noise falls with each step of a refinement, and with the number of calibration images."""
    steps = [step for step in results.get("refine") or [] if value(step, "d") is not None]
    curve = [entry for entry in results.get("curve") or [] if "amax_change" in entry]
    charts, tables = [], []
    if steps:
        spans = [Span(f"{number_of}. {step.get('step')}", float(step["d"])) for number_of, step in enumerate(steps, 1)]
        charts.append(bars("Noise d after each step of the refinement", spans, axis="d", form=".4~g"))
        rows = tuple((str(step.get("step")), measure(value(step, "d"))) for step in steps)
        tables.append(Table("refinement", ("step", "d"), rows))
    if curve:
        points = [(float(entry["images"]), float(entry["amax_change"])) for entry in curve]
        title = "Change of amax as calibration images are added"
        charts.append(line(title, points, axes=("calibration images", "change"), form=".1%", zero=True))
    return Section("Refinement and calibration images", charts=tuple(charts), tables=tuple(tables)) if charts else None
