"""Numbers of a result as a report tells them: present or not, in words, and which model each mAP belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from yoloqat.report.parts import Results
from yoloqat.results import number, signed

NO_INTERVAL = "no interval"
_NAMED = 4
"""Names of a list that a cell holds; ``result.json`` holds all."""


def value(results: Results, name: str) -> float | None:
    """Return a number of a result; None where it is missing, null or no number."""
    found = results.get(name)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def bounds(results: Results, name: str) -> tuple[float, float] | None:
    """Return the interval under a key; None where it is missing, null or open at an end."""
    found = results.get(name)
    if isinstance(found, list | tuple) and len(found) == 2 and all(isinstance(end, int | float) for end in found):
        return float(found[0]), float(found[1])
    return None


def between(interval: tuple[float, float] | None, digits: int = 4) -> str:
    """Return an interval of a difference as text; a dash where there is none."""
    return "-" if interval is None else f"[{signed(interval[0], digits)}, {signed(interval[1], digits)}]"


def measure(found: float | None) -> str:
    """Return a positive number of any size, such as d, with four significant digits; a dash where there is none."""
    return "-" if found is None else f"{found:.4g}"


def measured(results: Results, name: str = "d") -> str:
    """Return a positive number with its 95 % interval where it has one, e.g. ``0.04 [0.038, 0.042]``."""
    interval = bounds(results, f"{name}_ci95")
    ends = "" if interval is None else f" [{measure(interval[0])}, {measure(interval[1])}]"
    return measure(value(results, name)) + ends


def expected(results: Results) -> str | None:
    """Return the drop of mAP that a noise d brings as a rule, with its band; None where the result does not tell it."""
    drop, band = value(results, "expected_drop"), bounds(results, "expected_drop_band")
    if drop is not None and band is not None:
        return f"{number(drop)} ({number(band[0])} to {number(band[1])})"
    drop, band = value(results, "expected_relative_drop"), bounds(results, "expected_relative_drop_band")
    if drop is not None and band is not None:
        return f"{percent(drop)} of the float mAP ({percent(band[0])} to {percent(band[1])})"
    return None


def percent(found: float | None, digits: int = 1) -> str:
    """Return a share in percent; a dash where there is none."""
    return "-" if found is None else f"{100 * found:.{digits}f} %"


def few(names: Any) -> str:
    """Return the first names of a list, and how many more there are; a dash where there is no list."""
    if not isinstance(names, list | tuple):
        return "-" if names is None else str(names)
    shown = ", ".join(map(str, names[:_NAMED]))
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown


def method_name(row: Results) -> str:
    """Return a method with its parameters as the command line takes it, e.g. ``percentile-99.99``."""
    return "-".join([str(row["method"]), *(f"{part:.10g}" for part in (row.get("params") or {}).values())])


def drop_note(results: Results, name: str = "drop") -> str:
    """Return the interval of a drop, or why there is none."""
    interval = bounds(results, f"{name}_ci95")
    if interval is not None:
        return f"95 % interval {between(interval)}"
    return str(results.get(f"{name}_ci95_reason") or NO_INTERVAL)


def drop_sentence(results: Results, name: str = "drop") -> str:
    """Return what a drop means: a loss, a gain, or neither for certain."""
    drop, interval = value(results, name), bounds(results, f"{name}_ci95")
    if drop is None:
        return "its drop is not known"
    if interval is None:
        return f"its drop is {signed(drop)} mAP ({drop_note(results, name)})"
    if interval[0] > 0:
        return f"it loses {number(drop)} mAP {between(interval)}"
    if interval[1] < 0:
        return f"it gains {number(-drop)} mAP (drop {between(interval)})"
    return f"its drop of {signed(drop)} mAP {between(interval)} cannot be told from zero"


_GOALS = {
    "max_drop": "an expected drop of at most {:g}",
    "max_noise": "a noise d of at most {:g}",
    "max_latency": "at most {:g} ms",
}


def goal_text(results: Results) -> str:
    """Return whether a search met its goal, and the goal; an empty text where there is none."""
    goal = results.get("goal")
    told = (
        [_GOALS[name].format(limit) for name, limit in goal.items() if name in _GOALS] if isinstance(goal, dict) else []
    )
    return f"{'keeps to' if results.get('met') else 'is the nearest, no set keeps to'} {told[0]}" if told else ""


@dataclass(frozen=True)
class Score:
    """The mAP of one model.

    Attributes:
        role: ``"float"``, ``"qfloat"`` or ``"engine"``.
        label: What to call it.
        map50_95: As a fraction, or None.
        drop: Of float minus this model, or None where it is not known.
        interval: Of the drop.
        note: Why there is no interval.
    """

    role: str
    label: str
    map50_95: float | None
    drop: float | None = None
    interval: tuple[float, float] | None = None
    note: str = ""


_OWN = (
    ("map_float", "float", "Float"),
    ("map_swapped", "qfloat", "Swapped, each tensor's own range"),
    ("map_qfloat", "qfloat", "QFloat"),
    ("map_onnx", "engine", "ONNX file"),
    ("map_engine", "engine", "INT8 engine"),
)
_OWNERS = ("map_engine", "map50_95", "map_qfloat")
"""Whose the ``drop`` of a result is: the first of these keys that it has."""


def scores(command: str, results: Results, model: str = "") -> list[Score]:
    """Return the mAPs of a result: float first, then with quantizers, then engines.

    Args:
        command: What wrote it.
        results: Its results.
        model: The file that `eval` scored, whose name tells what it is.
    """
    if command == "compare":
        return _compared(results)
    if command == "sensitivity" and isinstance(results.get("quantized"), dict):
        both = (("float", "Float", "baseline"), ("qfloat", "QFloat", "quantized"))
        return [Score(role, label, value(results[name], "map50_95")) for role, label, name in both]
    owner = next((name for name in _OWNERS if value(results, name) is not None), "")
    found = [_score(results, name, role, label, owner) for name, role, label in _OWN if results.get(name) is not None]
    if isinstance(results.get("start"), dict):  # of finetune
        start = results["start"]
        interval = bounds(start, "drop_ci95")
        found.append(Score("qfloat", "calibrated", value(start, "map50_95"), value(start, "drop"), interval))
    if results.get("map50_95") is not None:
        role, label = _role(command, model)
        found.append(_score(results, "map50_95", role, label, owner))
    return found


def _score(results: Results, name: str, role: str, label: str, owner: str) -> Score:
    if name != owner or value(results, "drop") is None:
        return Score(role, label, value(results, name))
    interval = bounds(results, "drop_ci95")
    note = "" if interval else drop_note(results)
    return Score(role, label, value(results, name), value(results, "drop"), interval, note)


def _role(command: str, model: str) -> tuple[str, str]:
    if command != "eval":
        return {"quantize": ("engine", "INT8 engine"), "finetune": ("qfloat", "fine-tuned")}.get(
            command, ("qfloat", "QFloat")
        )
    if model.endswith(".pt"):
        return "float", "Float"
    return ("qfloat", "QFloat") if model.endswith(".safetensors") else ("engine", "ONNX file or engine")


def _compared(results: Results) -> list[Score]:
    found = [Score("float", "Float", value(results.get("baseline") or {}, "map50_95"))]  # none without labels
    for row in results["methods"]:
        interval = bounds(row, "drop_ci95")
        note = "" if interval else drop_note(row)
        found.append(Score("qfloat", method_name(row), value(row, "map50_95"), value(row, "drop"), interval, note))
    return found


def chosen_method(results: Results) -> dict[str, Any] | None:
    """Return the row of the best method of `compare`; None where no row has its name."""
    return next((row for row in results["methods"] if method_name(row) == results.get("best")), None)


def layer_count(found: Any) -> int | None:
    """Return how many layers are float, told as their number or as the list of them."""
    if isinstance(found, list | tuple):
        return len(found)
    return int(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def short_names(names: Sequence[str]) -> list[str]:
    """Return the last parts of paths, as few as tell them apart."""
    parts = [PurePath(name).parts for name in names]
    for length in range(1, max((len(part) for part in parts), default=1) + 1):
        short = [str(PurePath(*part[-length:])) for part in parts]
        if len(set(short)) == len(set(names)):
            return short
    return list(names)
