"""Where an engine is other than predicted of its ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from yoloqat.engines.reading import Layer
from yoloqat.engines.reading.layer import FLOATS, INT8
from yoloqat.linting.fusion import PredictedLayer
from yoloqat.results import Table, counted, number

SHOWN_DIFFERENCES = 15


def difference(layers: Sequence[Layer], predicted: Sequence[PredictedLayer], gpu: str) -> dict[str, Any]:
    """Return how an engine differs from what was predicted, JSON-able.

    A predicted layer is that layer of the engine with which it shares most nodes. They agree where both read, and both write,
    integers or floats; which float type is not compared.

    Args:
        layers: Of the engine, with types.
        predicted: Of its ONNX file.
        gpu: Whose least times stand beside those measured.
    """
    items: list[dict[str, Any]] = []
    missing = []
    for layer in predicted:
        if layer.standalone:
            continue
        real = _counterpart(layer, layers)
        if real is None:
            missing.append(layer.name)
            continue
        pairs = ((layer.precision_in, real.precision_in), (layer.precision_out, real.precision_out))
        items.append(
            {
                "layer": layer.name,
                "engine_layer": real.name,
                "nodes": list(layer.nodes),
                "predicted_in": layer.precision_in,
                "predicted_out": layer.precision_out,
                "precision_in": real.precision_in,
                "precision_out": real.precision_out,
                "predicted_ms": layer.time_ms.get(gpu),
                "ms": real.ms,
                "agrees": None
                if "unknown" in (real.precision_in, real.precision_out)
                else all(_alike(*pair) for pair in pairs),
            }
        )
    kinds = ("quantize", "dequantize", "reformat")
    alone = {kind: sum(layer.kind == kind for layer in predicted) for kind in kinds}
    really = {kind: sum(layer.kind == kind.replace("reformat", "copy") for layer in layers) for kind in kinds}
    return {
        "gpu": gpu,
        "agree": sum(item["agrees"] is True for item in items),
        "differ": sum(item["agrees"] is False for item in items),
        "not_told": sum(item["agrees"] is None for item in items),
        "not_found": missing,
        "standalone_predicted": alone,
        "standalone": really,
        "items": items,
    }


def _counterpart(layer: PredictedLayer, layers: Sequence[Layer]) -> Layer | None:
    wanted = set(layer.nodes)
    found = max(
        (one for one in layers if one.kind == "compute"), key=lambda one: len(wanted & set(one.nodes)), default=None
    )
    return found if found is not None and wanted & set(found.nodes) else None


def _alike(predicted: str, real: str) -> bool:
    """Return whether both are integers or both floats; a skip of another type beside the data counts as the data's."""
    kinds = set(real.split("+"))
    return bool(kinds & (INT8 if predicted in INT8 else FLOATS))


def difference_table(found: dict[str, Any]) -> Table:
    """Return the layers that are other than predicted, the slowest first."""
    differing = sorted((x for x in found["items"] if x["agrees"] is False), key=lambda item: -(item["ms"] or 0.0))
    rows = tuple(
        (
            item["nodes"][0][-40:],
            f"{item['predicted_in']} to {item['predicted_out']}",
            f"{item['precision_in']} to {item['precision_out']}",
            number(item["ms"], 4),
        )
        for item in differing[:SHOWN_DIFFERENCES]
    )
    alone = ", ".join(
        f"{kind} {found['standalone'][kind]} (predicted {count})"
        for kind, count in found["standalone_predicted"].items()
    )
    lines = [f"run alone: {alone}"]
    lines += [f"{counted(len(found['not_found']), 'predicted layer')} not found"] if found["not_found"] else []
    hidden = len(differing) - len(rows)
    lines += [f"{counted(hidden, 'more layer')} not shown"] if hidden else []
    title = f"against the prediction: {counted(found['agree'], 'layer')} as predicted, {found['differ']} other"
    shown = rows or (("none", "-", "-", "-"),)
    return Table(title, ("layer", "predicted", "engine", "ms"), shown, "\n".join(lines), left=(1, 2))
