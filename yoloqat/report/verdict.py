"""What a command found, in one sentence."""

from __future__ import annotations

from collections.abc import Callable

from yoloqat.report.figures import (
    chosen_method,
    drop_sentence,
    expected,
    goal_text,
    layer_count,
    measure,
    measured,
    percent,
    short_names,
    value,
)
from yoloqat.report.parts import Results
from yoloqat.results import counted, number


def _eval(results: Results, model: str) -> str:
    images = counted(int(value(results, "images") or 0), "image")
    noise = f"; against its float model its noise d is {measure(value(results, 'd'))}" if "d" in results else ""
    return f"{model} scores {number(value(results, 'map50_95'))} mAP50-95 on {images}{noise}."


def _calibrate(results: Results, model: str) -> str:
    head = f"{model}, {counted(int(results['quantized_layers']), 'layer')} quantized by {results['method']}"
    if value(results, "map_qfloat") is not None:
        return f"{head}: {drop_sentence(results)}."
    noise = value(results, "d")
    return f"{head}." if noise is None else f"{head}: its noise d is {measure(noise)}."


def _compare(results: Results, model: str) -> str:
    del model
    best, tied = chosen_method(results), len(results.get("tied") or ())
    if best is None:
        return f"{results.get('best')} is best."
    others = f"; {counted(tied, 'other method')} cannot be told apart from it" if tied else "; no other is as good"
    if value(best, "drop") is None:  # without labels
        drop = expected(best)
        rule = f"; as a rule a drop of {drop}" if drop else ""
        return f"{results['best']} makes the least noise, d = {measured(best)}{others}{rule}."
    named = results.get("recommended")
    advice = f" Recommended, for the least noise among them: {named}." if named else ""
    return f"{results['best']} has the highest mAP: {drop_sentence(best)}{others}.{advice}"


def _sensitivity(results: Results, model: str) -> str:
    items = results.get("items") or []
    summary = results.get("summary")
    noise = value(results, "d")
    told = []
    if noise is not None:
        told.append(f"quantization adds the noise d = {measure(noise)}")
    if items and value(items[0], "share") is not None:
        noisiest = max(items, key=lambda item: value(item, "share") or 0.0)
        told.append(
            f"{noisiest['name']} causes {percent(value(noisiest, 'share'), 0)} of it, the most of {counted(len(items), 'item')}"
        )
    if summary:
        decided = f"{summary['differ_from_zero']} of {counted(int(summary['items']), 'item')} differ from zero in mAP"
        images = results.get("evaluated_images")
        told.append(decided + (f" on {counted(int(images), 'image')}" if images else ""))
    effects = [(effect, str(item["name"])) for item in items if (effect := value(item, "effect")) is not None]
    if summary and effects:  # items that are tied with zero stand by their share
        effect, name = max(effects, key=lambda found: found[0])
        told.append(f"the largest effect is that of {name}, {effect:+.4f}")
    return f"{model}: {'; '.join(told)}." if told else f"{model} was scanned."


def _set(results: Results, model: str) -> str:
    layers = layer_count(results.get("float_layers"))
    head = model if layers is None else f"{model} with {counted(layers, 'layer')} left float"
    took, predicted = (value(results, name) for name in ("latency_ms", "latency_predicted_ms"))
    tail = "" if took is None else f"; it takes {measure(took)} ms"
    source = str(results.get("latency_source"))
    if took is None and predicted is not None and source.endswith("profile"):  # others compare sets alone
        tail = f"; it is predicted to take {measure(predicted)} ms by {source}"
    silent = value(results, "drop") is None and value(results, "d") is not None
    cost = f"its noise d is {measured(results)}" if silent else drop_sentence(results)
    goal = goal_text(results)
    return f"{head}: {cost}{tail}{f'; it {goal}' if goal else ''}{_verdict(results)}."


def _verdict(results: Results) -> str:
    found = results.get("verdict")
    if not isinstance(found, dict):
        return ""
    return f"; the limit of {measure(value(found, 'limit'))} is {found['verdict']} on {found['images']} images that took no part"


def _finetune(results: Results, model: str) -> str:
    del model
    best, epochs = results.get("best_epoch"), len(results.get("epochs") or ())
    if best == 0:
        return f"No epoch of {epochs} was better than calibration: {drop_sentence(results)}."
    won = value(results, "won_back")
    share = f"; {percent(won, 0)} of the drop was won back" if won is not None else ""
    return f"After epoch {best} of {epochs}, the best, {drop_sentence(results)}{share}."


def _export(results: Results, model: str) -> str:
    lint = results.get("lint") or {}
    found = f"{counted(int(lint.get('errors', 0)), 'error')} and {counted(int(lint.get('warnings', 0)), 'warning')}"
    steps = value(results, "node_max_steps")
    parity = "" if steps is None else f", and its nodes differ from the model by at most {steps:g} steps"
    quantized = (
        f"{results['quantized_convolutions']} of {results['convolutions']} convolutions of {model} are quantized"
    )
    return f"{quantized}; the lint finds {found}{parity}."


def _build(results: Results, model: str) -> str:
    share = value(results, "int8_mac_share")
    macs = "" if share is None else f", {percent(share, 0)} of the quantized multiply-adds,"
    head = f"{results['int8_convolutions']} of {results['convolutions']} convolutions of {model}{macs} run in INT8"
    return f"{head}; {drop_sentence(results)}." if value(results, "drop") is not None else f"{head}."


def _engine_report(results: Results, model: str) -> str:
    del model
    layers, ms = counted(len(results["layers"]), "layer"), value(results, "ms")
    costs = [finding for finding in results["findings"] if finding["severity"] == "warning"]
    lost = sum(value(finding, "ms") or 0.0 for finding in costs)
    took = "" if ms is None else f" in {measure(ms)} ms"
    share = f", with {percent(lost / ms)} of the time" if ms and lost else ""
    found = f"{counted(len(costs), 'place')} to save time{share}" if costs else "nothing found that costs time"
    return f"{layers} run{took}, {results['int8_layers']} of them in INT8; {found}."


def _gpu_kit(results: Results, model: str) -> str:
    del model
    counts = f"{results['failed']} failed and {results['not_run']} were not run"
    return f"{results['done']} of {counted(len(results['steps']), 'step')} are done, {counts}."


def _bench(results: Results, model: str) -> str:
    del model
    items = [item for item in results["items"] if value(item["latency_ms"], "p50")]
    if not items:
        return "Nothing was timed."
    names = short_names([str(item["artifact"]) for item in items])
    times = [float(item["latency_ms"]["p50"]) for item in items]
    fastest = times.index(min(times))
    head = f"{names[fastest]} takes {times[fastest]:.2f} ms"
    if fastest == 0:
        return (
            f"{head}, alone in the run."
            if len(items) == 1
            else f"{head}, the fastest of {counted(len(items), 'model')}."
        )
    return f"{head}, {times[0] / times[fastest]:.2f} times as fast as {names[0]}."


def _lint(results: Results, model: str) -> str:
    parts = [counted(int(results.get(name, 0)), name[:-1]) for name in ("errors", "warnings", "notes")]
    return f"The lint of {model} finds {parts[0]}, {parts[1]} and {parts[2]}."


def _inspect(results: Results, model: str) -> str:
    macs, quantized = value(results, "macs"), value(results, "quantized_macs")
    share = f", {percent(quantized / macs, 0)} of the multiply-adds" if macs and quantized is not None else ""
    state = "are" if results.get("calibrated") else "would be"
    layers = f"{results['quantized_layers']} of {len(results['layers'])} layers of {model}{share}"
    return f"{layers}, {state} quantized."


def _demo(results: Results, model: str) -> str:
    del model
    items = {str(item["artifact"]): item for item in (results.get("bench") or {}).get("items", ())}
    pairs = (("float", str(results.get("chosen"))), ("float, OpenVINO", "INT8, OpenVINO"))  # the second of 0.1.0
    speed = ""
    for floating, quantized in pairs:
        if floating in items and quantized in items:
            ratio = items[floating]["latency_ms"]["p50"] / items[quantized]["latency_ms"]["p50"]
            speed = f"; it is {ratio:.2f} times as fast as the float engine"
    head = f"Calibrated by {results['method']}, the INT8 engine scores {number(value(results, 'map_engine'))}"
    return f"{head}: {drop_sentence(results)}{speed}{_verdict(results)}."


def _diff(results: Results, model: str) -> str:
    noise = value(results, "d")
    told = f"d = {measured(results)}" if noise is not None else "it was compared"
    counts = results.get("changes")
    if not isinstance(counts, dict):
        return f"{model}: {told}."
    gone, new = counts["lost"] + counts["fell"], counts["gained"] + counts["rose"]
    conf = results["threshold"]["conf"]
    head = f"Of {results['boxes_float']} boxes that the float model has above {conf:g}, {model} loses {gone} and adds {new}"
    return f"{head}; {told}."


def _predict(results: Results, model: str) -> str:
    images = counted(int(results["images"]), "image")
    return f"{model} sees {counted(int(results['objects']), 'object')} on {images}."


def _report(results: Results, model: str) -> str:
    del model
    return f"{counted(len(results['reports']), 'result')} in one page."


_SENTENCES: dict[str, Callable[[Results, str], str]] = {
    "eval": _eval,
    "calibrate": _calibrate,
    "compare": _compare,
    "sensitivity": _sensitivity,
    "search": _set,
    "quantize": _set,
    "finetune": _finetune,
    "export": _export,
    "build": _build,
    "engine-report": _engine_report,
    "gpu-kit": _gpu_kit,
    "bench": _bench,
    "lint": _lint,
    "inspect": _inspect,
    "demo": _demo,
    "diff": _diff,
    "predict": _predict,
    "report": _report,
}


def verdict(command: str, results: Results, model: str) -> str:
    """Return what a command found, in one sentence.

    Args:
        command: What wrote the result.
        results: Its results.
        model: What to call the model.

    Returns:
        The sentence; for a command that is not known, that it is done.
    """
    sentence = _SENTENCES.get(command)
    return f"`yoloqat {command}` is done." if sentence is None else sentence(results, model)
