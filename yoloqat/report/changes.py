"""What changed on the images: a gallery, and the classes and sizes whose boxes change most."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from yoloqat.report.charts import Span, bars
from yoloqat.report.figures import bounds, measure, measured, value
from yoloqat.report.parts import Fact, Picture, Results, Section
from yoloqat.results import Table, number, signed

_KINDS = ("lost", "fell", "gained", "rose", "relabelled", "moved")
_TILE = re.compile(r"pictures/[0-9A-Za-z_-]+\.webp")
ROOM = 1_400_000
"""Bytes of all pictures of a page."""
_LARGEST = 1 << 18
"""Bytes of one."""
_BARS = 20
_LEGEND = (
    ("red", "lost, or the score fell below the threshold"),
    ("blue", "gained, or the score rose above it"),
    ("orange", "moved"),
    ("violet", "another class"),
    ("green", "kept"),
)


def changes_section(results: Results, folder: Path | None, room: int = ROOM) -> Section | None:
    """Return the gallery, the threshold to use, and what changes most, by class and size.

    Args:
        results: Of `diff`.
        folder: The directory of the results, which holds the pictures; None shows none.
        room: Bytes that its pictures may take.
    """
    if "changes_by_image" not in results or "changes" not in results:
        return None
    threshold, counts = results["threshold"], results["changes"]
    conf = f"{threshold['conf']:g}"
    facts = (
        Fact(f"boxes of float above {conf}", str(results["boxes_float"])),
        Fact("of the quantized model", str(results["boxes_quantized"])),
        Fact(
            "lost or fallen below",
            str(counts["lost"] + counts["fell"]),
            f"{counts['lost']} lost, {counts['fell']} fell",
        ),
        Fact("gained or risen above", str(counts["gained"] + counts["rose"]), _both(counts)),
        Fact("moved", str(counts["moved"])),
        Fact("another class", str(counts["relabelled"])),
        Fact("threshold to use", f"{threshold['advised']:g}", _ends(threshold)),
        Fact("noise d", measure(value(results, "d")), measured(results).partition(" ")[2]),
        Fact("mAP against the float model's boxes", number(value(results, "fidelity_map"))),
    )
    classes, sizes, images = results["changes_by_class"], results["changes_by_size"], results["changes_by_image"]
    spans = [Span(str(row["class"]), float(row["disagreement"])) for row in classes[:_BARS] if row["disagreement"] > 0]
    chart = bars("Classes that change most", spans, axis="disagreement", form=".3~f") if spans else None
    quantiles = tuple(
        (
            f"{100 * row['quantile']:.0f} %",
            number(row["float"], 3),
            number(row["quantized"], 3),
            signed(row["shift"], 3),
        )
        for row in results["score_quantiles"]
    )
    shown = [Table("by size (below 32 x 32, below 96 x 96, larger)", ("size", *_COLUMNS), _cells("size", sizes))]
    if quantiles:
        columns = ("quantile", "float", "quantized", "shift")
        shown.append(Table("scores of objects that both models see", columns, quantiles))
    whole = (
        Table(f"all {len(classes)} classes", ("class", *_COLUMNS), _cells("class", classes)),
        Table(f"all {len(images)} images", ("image", *_COLUMNS), _cells("image", images)),
    )
    advice = str(threshold["advice"])
    return Section(
        "What changed on the images",
        f"{advice[:1].upper()}{advice[1:]}.",
        facts,
        charts=() if chart is None else (chart,),
        pictures=_pictures(results, folder, room),
        legend=_LEGEND,
        tables=tuple(shown),
        folded=whole,
        notes=(f"Fell, rose: the score crossed {conf}. Disagreement: the sum of what changed, 0 to 1 for each box.",),
    )


_COLUMNS = ("disagreement", "boxes", *_KINDS)


def _both(counts: Mapping[str, Any]) -> str:
    return f"{counts['gained']} gained, {counts['rose']} rose"


def _ends(threshold: Results) -> str:
    interval = bounds(threshold, "equal_boxes_conf_ci95")
    if interval is None:
        return "as now"
    ends = f"95 % interval {interval[0]:g} to {interval[1]:g}"
    return ends if threshold["change"] else f"as now: equal boxes at {threshold['equal_boxes_conf']:g}, {ends}"


def _cells(key: str, rows: Sequence[Results]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            PurePath(row[key]).name if key == "image" else str(row[key]),
            number(row["disagreement"], 2),
            str(row["boxes_float"]),
            *(str(row[kind]) for kind in _KINDS),
        )
        for row in rows
    )


def _pictures(results: Results, folder: Path | None, room: int) -> tuple[Picture, ...]:
    """Return the pictures that lie beside the result, as far as there is room for them in a page."""
    rows = {row["image"]: row for row in results["changes_by_image"]}
    found = []
    for entry in results.get("pictures") or ():
        row, contents = rows[entry["image"]], [_read(folder, name) for name in entry["tiles"]]
        size = sum(len(content or b"") for content in contents)
        if None in contents or size > room:
            continue
        room -= size
        name = PurePath(entry["image"]).name
        tiles = tuple(
            (side, _inlined(content), f"{side} boxes on {name}")
            for side, content in zip(("float", "quantized"), contents, strict=True)
            if content is not None
        )
        found.append(Picture(name, f"disagreement {number(row['disagreement'], 2)}: {_told(row)}", tiles))
    return tuple(found)


def _told(row: Results) -> str:
    """Return what changed in one image, e.g. ``2 fell (person 0.31 to 0.22, ...)``."""
    parts = []
    for kind in _KINDS:
        details = [change for change in row["details"] if change["kind"] == kind]
        if details:
            named = ", ".join(_change(change) for change in details[:3])
            parts.append(f"{len(details)} {kind} ({named}{', ...' if len(details) > 3 else ''})")
    return "; ".join(parts)


def _change(change: Results) -> str:
    first, second = change["class_float"], change["class_quantized"]
    name = first if second in (None, first) else second if first is None else f"{first} to {second}"
    scores = [f"{score:.2f}" for score in (change["score_float"], change["score_quantized"]) if score is not None]
    return f"{name} {' to '.join(scores)}"


def _read(folder: Path | None, name: str) -> bytes | None:
    """Return a picture that lies in the directory of pictures, and is one; None for anything else."""
    if folder is None or not _TILE.fullmatch(name):
        return None
    try:
        with (folder / name).open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError:
        return None
    return content if len(content) <= _LARGEST and content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None


def _inlined(content: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"
