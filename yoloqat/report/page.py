"""The HTML page of results: one file that needs no network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path, PurePath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from yoloqat.provenance import write_text
from yoloqat.report.accuracy import classes_section, frontier_section, methods_section, scores_section, training_section
from yoloqat.report.changes import ROOM, changes_section
from yoloqat.report.decisions import decisions_section
from yoloqat.report.engine import bench_section, lint_section, map_section, parity_section, steps_section
from yoloqat.report.noise import budget_section, items_section, refinement_section
from yoloqat.report.parts import Report, Results, Section
from yoloqat.report.summary import summary_section
from yoloqat.report.verdict import verdict

_LIBRARIES = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js")
_WRONG = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)
"""What a result raises whose keys are not what they are documented to be."""
_SECTIONS: tuple[tuple[str, Callable[[Results], Section | None]], ...] = (
    ("Decisions", decisions_section),
    ("Noise budget", budget_section),
    ("Calibration methods", methods_section),
    ("Refinement and calibration images", refinement_section),
    ("Frontier", frontier_section),
    ("Fine-tuning", training_section),
    ("Items", items_section),
    ("Steps", steps_section),
    ("Latency", bench_section),
    ("INT8 map", map_section),
    ("Parity of the file", parity_section),
    ("Lint", lint_section),
    ("Classes", classes_section),
)
"""Each part and the heading it has where it cannot be made."""
_NESTED = ("compare", "sensitivity", "budget", "build", "bench", "export")
"""Keys under which a command that goes the whole way keeps the results of others."""
_CARELESS = "What a careless method loses"


def write_report(result: Mapping[str, Any], path: Path) -> None:
    """Write the page of a result, whole or not at all.

    Args:
        result: What ``result.json`` holds; that of `yoloqat report` becomes one page of several results.
        path: The ``.html`` file.

    Raises:
        OutputError: The file cannot be written.
        KeyError: The result is none of yoloqat.
    """
    write_text(path, page(result, folder=path.parent))


def page(result: Mapping[str, Any], *, folder: Path | None = None) -> str:
    """Return the page of a result as HTML.

    Args:
        result: What ``result.json`` holds.
        folder: The directory of the result, which holds its pictures; None shows none, unless a result of several tells it.

    Returns:
        The text of one file without a reference to another: style, script and data are inside.

    Raises:
        KeyError: The result is none of yoloqat.
    """
    own = result["results"]
    parts = own["reports"] if result["command"] == "report" else [result]
    places = [str(part.get("directory", "")) for part in parts]
    folders = [Path(place) if place else folder for place in places]
    room = ROOM // max(1, sum("pictures" in part["results"] for part in parts))
    reports = [
        report_of(part, place=place, folder=where, room=room)
        for part, place, where in zip(parts, places, folders, strict=True)
    ]
    summary = summary_section(parts) if result["command"] == "report" else None
    head = report_of(result, place="") if summary else reports[0]
    sections = [section for report in reports for section in report.sections] + ([summary] if summary else [])
    plots = any(section.charts for section in sections)
    return str(_template().render(head=head, summary=summary, reports=reports, plots=plots))


def report_of(result: Mapping[str, Any], *, place: str, folder: Path | None = None, room: int = ROOM) -> Report:
    """Return the parts of the report of one result; a part whose keys are not as documented says so in its place.

    Args:
        result: What ``result.json`` holds.
        place: The directory, as it is called, or nothing.
        folder: The directory, which holds the pictures; None shows none.
        room: Bytes that the pictures may take.
    """
    command, results = str(result["command"]), result["results"]
    model = model_name(result)
    label = PurePath(model).name or model
    try:
        found = verdict(command, results, label or "The model")
    except _WRONG as error:
        found = f"The results of `yoloqat {command}` are not as documented ({_reason(error)})."
    title = f"{command} of {label}" if label else command
    sections = () if command == "report" else tuple(_sections(command, results, model, folder, room))
    warnings = results.get("warnings")  # of a lint their number
    told = tuple(map(str, warnings)) if isinstance(warnings, list) else ()
    return Report(title, place, found, told, sections, tuple(_about(result)))


def model_name(result: Mapping[str, Any]) -> str:
    """Return the model that a result is of, as a path; nothing where there is none, or several."""
    inputs = (result.get("provenance") or {}).get("inputs") or {}
    model = inputs.get("model")
    return str(model.get("path", "")) if isinstance(model, dict) else ""


def _sections(command: str, results: Results, model: str, folder: Path | None, room: int) -> Iterator[Section]:
    """Yield the parts that the keys of a result allow, in the order they are read."""
    if command != "compare":
        yield from _made("Accuracy", lambda: scores_section(command, results, model))
    yield from _made("What changed on the images", lambda: changes_section(results, folder, room))
    if "careless" in results:  # of demo
        yield from _made(_CARELESS, lambda: methods_section({"methods": results["careless"]}, title=_CARELESS))
    nested = [results[key] for key in _NESTED if isinstance(results.get(key), dict)]
    for title, make in _SECTIONS:
        for part in (results, *nested):
            yield from _made(title, lambda make=make, part=part: make(part))  # type: ignore[misc]


def _made(title: str, make: Callable[[], Section | None]) -> Iterator[Section]:
    try:
        section = make()
    except _WRONG as error:
        section = Section(title, f"This part cannot be shown: its keys are not as documented ({_reason(error)}).")
    if section is not None:
        yield section


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _about(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is folded away: the line that was typed, settings, versions, machine, files."""
    provenance = dict(result.get("provenance") or {})
    line = provenance.pop("command_line", None)
    if line:
        yield "Command line", str(line)
    arguments = provenance.pop("arguments", None)
    for name, part in (("Settings", result.get("config")), ("Options", arguments), ("Provenance", provenance)):
        if part:
            yield name, json.dumps(part, indent=2, ensure_ascii=False)


@cache
def _template() -> Any:
    made = Environment(
        loader=PackageLoader("yoloqat.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    made.globals |= {
        "style": _text("templates", "style.css"),
        "script": _text("templates", "histogram.js") + _text("templates", "report.js"),
        "libraries": [_library(name) for name in _LIBRARIES],
        "licenses": _text("vendor", "LICENSES.txt"),
    }
    return made.get_template("page.html.j2")


def _text(*parts: str) -> str:
    return resources.files("yoloqat.report").joinpath(*parts).read_text(encoding="utf-8")


def _library(name: str) -> str:
    """Return a library without the comment that names a file for debuggers, which is not there."""
    return re.sub(r"\n?//# sourceMappingURL=\S+\s*$", "", _text("vendor", name))
