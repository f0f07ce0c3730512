"""A prediction as tables for a person; every one says that it is a prediction."""

from __future__ import annotations

from collections.abc import Sequence

from yoloqat.linting.fusion.explain import Prediction, Total, kinds_of
from yoloqat.linting.fusion.gpus import GPUS
from yoloqat.linting.fusion.rules import FUSION_RULES, FusionRule
from yoloqat.results import Table

_LOSSES = 8


def _share(total: Total) -> str:
    return "-" if total.int8_mac_share is None else f"{100 * total.int8_mac_share:.1f} %"


def prediction_tables(title: str, prediction: Prediction, gpu: str) -> tuple[Table, ...]:
    """Return what the predicted engine runs, what it loses, and what it comes to.

    Args:
        title: The file.
        prediction: Of that file.
        gpu: Name of the GPU whose times are shown.
    """
    rows = []
    for (kind, before, after), layers in kinds_of(prediction.layers).items():
        time = sum(layer.time_ms[gpu] for layer in layers)
        moved, macs = sum(layer.bytes for layer in layers), sum(layer.macs for layer in layers)
        rows.append(
            (
                str(kind),
                f"{before} to {after}",
                str(len(layers)),
                f"{moved / 1e6:.1f}",
                f"{macs / 1e9:.2f}",
                f"{time:.3f}",
            )
        )
    columns = ("layers", "in to out", "number", "MB", "GMAC", "ms")
    name = GPUS[gpu].title
    engine = Table(f"{title}: predicted engine, roofline of {name}", columns, tuple(rows), left=(1,))
    shown = prediction.losses[:_LOSSES]
    lost = [(loss.kind, f"{1000 * loss.time_ms[gpu]:.1f}", loss.message) for loss in shown]
    more = len(prediction.losses) - len(shown)
    caption = f"{more} more in 'predicted_losses' of result.json" if more else ""
    losses = Table(
        "predicted losses",
        ("what", "us", "where and why"),
        tuple(lost) or (("none", "-", "nothing found"),),
        caption,
        (2,),
    )
    totals = (
        ("this file", prediction.total),
        ("in FP16", prediction.half),
        ("implicit INT8, at best", prediction.implicit_int8),
    )
    sums = tuple(
        (label, str(t.layers), str(t.standalone), f"{t.bytes / 1e6:.1f}", _share(t), f"{t.time_ms[gpu]:.3f}")
        for label, t in totals
    )
    caption = (
        "Predicted from the file, not measured. ms is the least time, bytes and operations at peak: it ranks files, it is no "
        "latency."
    )
    if prediction.open_inputs:
        caption += f" Open sizes of {', '.join(map(repr, prediction.open_inputs))} count as 1."
    headings = ("predicted", "layers", "Q, DQ, copies", "MB", "INT8 MACs", "ms")
    return engine, losses, Table(f"predicted totals, {name}", headings, sums, caption)


def fusion_rules_table(rules: Sequence[FusionRule] = FUSION_RULES) -> str:
    """Return the rules of the fusion model as a Markdown table."""
    lines = ["| rule | what TensorRT does | known from |", "|---|---|---|"]
    for rule in rules:
        lines.append(f"| `{rule.id}` | {rule.says} | {rule.basis}: [{rule.source.title}]({rule.source.url}) |")
    return "\n".join(lines) + "\n"


def gpus_table() -> str:
    """Return the peak rates as a Markdown table."""
    lines = [
        "| GPU | INT8, TOPS | FP16, TFLOPS | FP32 layers, TFLOPS | GB/s | source |",
        "|---|---|---|---|---|---|",
    ]
    for gpu in GPUS.values():
        rates = f"{gpu.int8 / 1e12:g} | {gpu.half / 1e12:g} | {gpu.tf32 / 1e12:g} | {gpu.bandwidth / 1e9:g}"
        lines.append(f"| `{gpu.name}` {gpu.title} | {rates} | [{gpu.source.title}]({gpu.source.url}) |")
    return "\n".join(lines) + "\n"
