"""The histograms of quantizers as a page holds them: few digits, and by the item that holds the quantizer."""

from __future__ import annotations

import re
from typing import Any

from yoloqat.report.figures import measure, percent, value
from yoloqat.report.parts import Results


def histograms_of(results: Results) -> dict[str, Any]:
    """Return the histograms of a noise budget.

    Args:
        results: With ``items``, each with its ``quantizers``, and ``histograms``; without these there is none.

    Returns:
        ``quantizers``, each with ``name``, ``about``, ``shares`` of evenly spaced bins from 0 to ``end``, and ``clip``; and
        ``items``, the indices of the quantizers of each, the noisiest first. Nothing where no item has any.
    """
    known: dict[str, Results] = {
        name: entry for entry in results.get("histograms") or [] for name in entry["quantizers"]
    }
    parts: dict[str, Results] = {str(entry["name"]): entry for entry in results.get("quantizers") or []}
    found: list[dict[str, Any]] = []
    items: dict[str, list[int]] = {}
    for item in results.get("items") or []:
        words = dict(zip(item.get("quantizers") or [], quantizer_names(item), strict=True))
        told = []
        for location in words.keys() & known.keys():
            histogram = known[location]
            part: Results = next((parts[name] for name in histogram["quantizers"] if name in parts), {})
            told.append((-(value(part, "d") or 0.0), words[location], _figure(words[location], histogram, part)))
        if told:
            items[str(item["name"])] = list(range(len(found), len(found) + len(told)))
            found += [figure for *_, figure in sorted(told, key=lambda entry: entry[:2])]
    return {"quantizers": found, "items": items} if items else {}


def quantizer_names(item: Results) -> list[str]:
    """Return the quantizers of an item by what they quantize, inside the item, e.g. ``cv1.conv input``."""
    inside = (str(name).removeprefix(f"{item['name']}.") for name in item.get("quantizers") or [])
    return [re.sub(r"\.?_(\w+)_quantizer$", r" \1", name).strip() for name in inside]


def _figure(word: str, histogram: Results, part: Results) -> dict[str, Any]:
    end, clip, shares = float(histogram["end"]), float(histogram["clip"]), histogram["shares"]
    width = end / max(len(shares), 1)
    beyond = sum(share for bin_, share in enumerate(shares) if bin_ * width >= clip)
    unit = "steps of its channel" if histogram["unit"] == "step" else ""
    told = [f"values to {measure(end)}, range ends at {measure(clip)} {unit}".strip()]
    if beyond > 0:
        told.append(f"{percent(beyond, 3)} beyond it")
    if value(part, "d") is not None:
        told.append(f"d alone {measure(value(part, 'd'))}, {percent(value(part, 'share'))} of the noise")
    return {
        "name": word,
        "about": "; ".join(told),
        "shares": [_short(float(share)) for share in shares],
        "end": _short(end),
        "clip": _short(clip),
    }


def _short(number: float) -> float:
    """Return a number with three digits, which a small picture does not tell from the whole."""
    return float(f"{number:.3g}")
