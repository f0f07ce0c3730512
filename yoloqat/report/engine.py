"""The parts of a report about files and engines: the INT8 map, latencies, the lint, the parity of an export."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from yoloqat.report.charts import Span, bars, spreads
from yoloqat.report.figures import drop_note, few, measure, percent, short_names, value
from yoloqat.report.parts import Block, Fact, Results, Section, Stage
from yoloqat.results import Table, counted, number, signed

_INT8 = re.compile(r"int8|\b[iu]8\b", re.IGNORECASE)
_FLOAT = re.compile(r"float|half|\bb?f(p)?(16|32|64)\b|\btf32\b", re.IGNORECASE)


def map_section(results: Results) -> Section | None:
    """Return the layers of a network or an engine by stage, coloured by precision."""
    layers = results.get("layers") or results.get("predicted")
    if not layers or not isinstance(layers[0], dict):  # `calibrate` tells names alone
        return None
    heavy = [layer for layer in layers if value(layer, "macs")] or list(layers)
    facts = []
    if "convolutions" in results:
        done = results.get("int8_convolutions", results.get("quantized_layers"))
        if done is not None:
            facts.append(Fact("convolutions in INT8", f"{done} of {results['convolutions']}"))
    share = _mac_share(results)
    if share is not None:
        facts.append(Fact("multiply-adds in INT8", percent(share)))
    if value(results, "int8_mac_share") is not None:
        facts.append(Fact("quantized multiply-adds in INT8", percent(value(results, "int8_mac_share"))))
    if results.get("reformats") is not None:
        reformats = results["reformats"]
        facts.append(Fact("reformats", str(len(reformats) if isinstance(reformats, list) else reformats)))
    left_out = len(layers) - len(heavy)
    text = "From input to output. Each block is a layer, wider the larger its share of its row's multiply-adds."
    notes = (f"{counted(left_out, 'layer')} without multiply-adds are in the table alone.",) if left_out else ()
    table = _layer_table(layers)
    return Section("INT8 map", text, tuple(facts), stages=tuple(_stages(heavy)), folded=(table,), notes=notes)


def _mac_share(results: Results) -> float | None:
    if value(results, "int8_mac_share_all") is not None:
        return value(results, "int8_mac_share_all")
    macs, quantized = value(results, "macs"), value(results, "quantized_macs")
    return quantized / macs if macs and quantized is not None else None


def layer_name(layer: Results) -> str:
    """Return the name of a layer of an engine, a network or a prediction."""
    return str(layer.get("name") or layer.get("layer") or "?")


def precision_of(layer: Results) -> str:
    """Return what a layer computes in, as its source tells it."""
    if "quantized" in layer:
        return "int8" if layer["quantized"] else "float"
    return str(layer.get("precision") or layer.get("precision_in") or "-")


def kind_of(precision: str) -> str:
    """Return ``"int8"``, ``"float"`` or ``"other"`` for any runtime's name of a precision."""
    return "int8" if _INT8.search(precision) else "float" if _FLOAT.search(precision) else "other"


def _stage_name(layer: Results) -> str:
    """Return the module that holds a layer: the name up to its first number, else its first part."""
    parts = re.split(r"[./]", layer_name(layer).strip("/"))
    end = next((index for index, part in enumerate(parts[:-1]) if part.isdecimal()), 0)
    return ".".join(parts[: end + 1])


def _stages(layers: Sequence[Results]) -> Iterator[Stage]:
    total = sum(value(layer, "macs") or 0.0 for layer in layers)
    for name, members in groupby(layers, _stage_name):
        group = list(members)
        macs = [value(layer, "macs") or 0.0 for layer in group]
        blocks = tuple(_block(layer, name, sum(macs)) for layer in group)
        in_int8 = sum(block.kind == "int8" for block in blocks)
        share = f", {percent(sum(macs) / total)} of all multiply-adds" if total else ""
        yield Stage(name, f"{in_int8} of {len(blocks)} in INT8{share}", blocks)


def _block(layer: Results, stage: str, whole: float) -> Block:
    name, precision, macs = layer_name(layer), precision_of(layer), value(layer, "macs")
    about = [name, str(layer.get("type") or layer.get("operator") or ""), precision]
    about += [f"{macs / 1e6:.1f} M multiply-adds"] if macs else []
    about += [f"{value(layer, 'ms'):.3f} ms"] if value(layer, "ms") is not None else []
    about += [str(layer["reason"])] if layer.get("reason") else []
    short = name.strip("/").removeprefix(stage).strip("./") or name
    share = macs / whole if macs and whole else 0.0
    alone = layer.get("kind") in ("copy", "reformat", "quantize", "dequantize")
    return Block(short, "other" if alone else kind_of(precision), ", ".join(part for part in about if part), share)


def _layer_table(layers: Sequence[Results]) -> Table:
    with_time = any(value(layer, "ms") is not None for layer in layers)
    rows = []
    for layer in layers:
        macs, after = value(layer, "macs"), layer.get("precision_out")
        precision = precision_of(layer) + (f" to {after}" if after and after != layer.get("precision_in") else "")
        reason = str(layer.get("reason") or "")
        time = [number(value(layer, "ms"), 3)] if with_time else []
        kind = str(layer.get("type") or layer.get("operator") or "-")
        rows.append((layer_name(layer), kind, precision, reason, "-" if macs is None else f"{macs / 1e6:.2f}", *time))
    columns = ("layer", "type", "precision", "why float", "M multiply-adds", *(("ms",) if with_time else ()))
    return Table(f"all {counted(len(rows), 'layer')}", columns, tuple(rows), left=(1, 2, 3))


def bench_section(results: Results) -> Section | None:
    """Return the latencies of models with their spread."""
    items = [item for item in results.get("items") or [] if isinstance(item.get("latency_ms"), dict)]
    if not items:
        return None
    names = short_names([str(item["artifact"]) for item in items])
    bars, rows = [], []
    for name, item in zip(names, items, strict=True):
        times = [value(item["latency_ms"], key) for key in ("p50", "p95", "p99")]
        if None not in times:
            p50, p95, p99 = (float(found or 0.0) for found in times)
            bars.append((f"{name} ({item['engine']})" if item.get("engine") else name, p50, p95, p99))
        speedup, spread = value(item, "speedup"), value(item, "spread")
        rows.append(
            (
                name,
                str(item.get("engine") or "-"),
                str(item.get("precision") or "-"),
                str(item.get("batch", "-")),
                *(number(found, 2) for found in times),
                number(value(item, "images_per_second"), 1),
                "-" if speedup is None else f"{speedup:.2f} x",
                percent(spread, 0),
            )
        )
    columns = ("model", "engine", "precision", "batch", "p50 ms", "p95 ms", "p99 ms", "images/s", "speed-up", "spread")
    table = Table("latencies", columns, tuple(rows), left=(1, 2)).without_empty_columns()
    machine = results.get("machine") or {}
    text = f"{machine['processor']}, {counted(machine['threads'], 'thread')}, {machine['device']}." if machine else ""
    charts = (spreads("Latency: median, 95th and 99th percentile", bars, axis="ms"),) if bars else ()
    return Section("Latency", text, charts=charts, tables=(table,))


_SEVERITIES = ("error", "warning", "note")


def lint_section(results: Results) -> Section | None:
    """Return the findings of the lint, of an export or of an engine."""
    lint = results.get("lint")
    counts = results if isinstance(results.get("findings"), list) else lint
    if not isinstance(counts, dict):
        return None
    findings = results.get("findings") or results.get("lint_findings") or []
    if any("ms" in finding for finding in findings):  # of an engine
        return _losses_section(findings)
    facts = tuple(
        Fact(f"{severity}s", str(counts[f"{severity}s"])) for severity in _SEVERITIES if f"{severity}s" in counts
    )
    order = {severity: place for place, severity in enumerate(_SEVERITIES)}
    rows = tuple(
        (
            str(finding.get("severity", "-")),
            str(finding.get("rule", "-")),
            str(finding.get("message", "")),
            str(finding.get("hint") or ""),
            few(finding.get("nodes")),
        )
        for finding in sorted(findings, key=lambda found: order.get(str(found.get("severity")), len(order)))
    )
    table = Table("findings", ("severity", "rule", "what", "what to do", "nodes"), rows, left=(1, 2, 3, 4))
    text = "" if rows else "Nothing was found."
    return Section("Lint", text, facts, tables=(table,) if rows else ())


def _losses_section(findings: Sequence[Results]) -> Section:
    """Return what costs an engine time, the dearest first."""
    rows = tuple(
        (
            str(finding.get("rule", "-")),
            number(value(finding, "ms"), 4),
            str(finding.get("message", "")),
            str(finding.get("hint") or ""),
            few(finding.get("nodes")),
        )
        for finding in findings
    )
    timed = [(str(finding.get("rule")), value(finding, "ms") or 0.0) for finding in findings if value(finding, "ms")]
    spans = [Span(f"{rule} {index + 1}", ms) for index, (rule, ms) in enumerate(timed)]
    charts = (bars("What costs time", spans, axis="ms"),) if spans else ()
    table = Table("in the table's order", ("what", "ms", "where", "what to do", "nodes"), rows, left=(2, 3, 4))
    return Section("Losses", "Copies, quantizers and float layers, the dearest first.", charts=charts, tables=(table,))


def steps_section(results: Results) -> Section | None:
    """Return the steps of the kit for a GPU, those that failed first, each with the line that repeats it."""
    steps = results.get("steps")
    if not isinstance(steps, list) or not steps or "state" not in steps[0]:
        return None
    order = {"failed": 0, "done": 1, "not run": 2}
    rows = tuple(
        (
            str(step["name"]),
            str(step["state"]),
            str(step["claim"]),
            f"{step['seconds']:.0f}",
            *(number(value(step["results"], key), 4) for key in ("map_engine", "drop", "d")),
            str(step["said"]),
            str(step["command"]),
        )
        for step in sorted(steps, key=lambda step: order.get(str(step["state"]), len(order)))
    )
    columns = ("step", "state", "what it checks", "s", "mAP", "drop", "d", "what it said", "line")
    table = Table("every step", columns, rows, left=(1, 2, 7, 8))
    return Section(
        "Steps", "Each ran in a process of its own; its results lie in the directory of its name.", tables=(table,)
    )


def parity_section(results: Results) -> Section | None:
    """Return how far an exported file is from the model, node by node and in mAP."""
    if value(results, "node_max_steps") is None:
        return None
    share = value(results, "node_flip_share_worst")
    worst = "" if share is None else f"in the worst node {percent(share, 3)}"
    facts = [
        Fact("largest difference of a node", f"{value(results, 'node_max_steps'):g} steps", "of its own integers"),
        Fact("elements that differ", percent(value(results, "node_flip_share"), 3), worst),
    ]
    if value(results, "map_difference") is not None:
        facts.append(
            Fact(
                "QFloat minus ONNX, mAP", signed(value(results, "map_difference")), drop_note(results, "map_difference")
            )
        )
    if value(results, "thread_noise") is not None:
        facts.append(Fact("difference by threads alone", number(value(results, "thread_noise"))))
    nodes = sorted(results.get("nodes") or [], key=lambda node: -(value(node, "flip_share") or 0.0))
    rows = tuple(
        (
            str(node.get("layer")),
            percent(value(node, "flip_share"), 4),
            measure(value(node, "max_steps")),
            str(node.get("elements", "-")),
        )
        for node in nodes
    )
    table = Table("nodes, the worst first", ("layer", "elements that differ", "largest, steps", "elements"), rows)
    return Section("Parity of the file", facts=tuple(facts), folded=(table,) if rows else ())
