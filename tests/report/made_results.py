"""Results to draw: what version 0.1.0 wrote for every command, and made ones for keys that it did not have."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

FORMER = Path(__file__).parents[1] / "golden" / "former" / "results"
COMMANDS = sorted(path.stem for path in FORMER.glob("*.json"))
EVIL = ("</script><script>alert(1)</script>", "model." + "a_very_long_name." * 12 + "conv", "<b>&\"'x")
"""Names that a model file may hold."""


def former(command):
    return json.loads((FORMER / f"{command}.json").read_text())


def noise(count, *, names=()):
    """Return a noise budget of items whose shares fall by half and add up to 1."""
    weights = [0.5 ** min(index, 30) for index in range(count)]
    whole, d = sum(weights), 0.04
    items = []
    for index, weight in enumerate(weights):
        name = names[index] if index < len(names) else f"model.{index // 4}.m.{index % 4}.cv1.conv"
        own = d * weight / whole
        interval = None if index == 1 else [0.9 * own, 1.1 * own]
        quantizers = [f"{name}._input_quantizer", f"{name}._weight_quantizer"]
        items.append({"name": name, "quantizers": quantizers, "d": own, "d_ci95": interval, "share": weight / whole})
    left = [d - sum(item["d"] for item in items[:layers]) for layers in range(min(count, 20) + 1)]
    curve = [
        {"float_layers": layers, "d_predicted": noise, "int8_mac_share": 1 - layers / count}
        for layers, noise in enumerate(left)
    ]
    figures = {"mode": "noise", "d": d, "d_ci95": [0.038, 0.042], "d_predicted": d, "images": 48, "seconds": 3.0}
    return former("sensitivity") | {"results": figures | {"items": items, "curve": curve}}


def budget():
    """Return a noise budget with all that a curve may tell: estimates, measured points, what to expect, what to leave float."""
    result = noise(6)
    results = result["results"]
    for layers, point in enumerate(results["curve"]):
        point |= {"items": layers, "name": f"model.0.m.{layers - 1}.cv1.conv" if layers else None}
        point |= {"d_estimated": 1.1 * point["d_predicted"], "expected_drop": 0.01 - 0.001 * layers}
        point["expected_drop_band"] = [0.0, 0.02 - 0.001 * layers]
    results["curve"][2] |= {"d": 0.011, "d_ci95": [0.010, 0.012]}
    results["curve"][4] |= {"d": 0.002, "d_ci95": None, "d_ci95_reason": "one image"}
    results |= {"weights": {"d": 0.01}, "activations": {"d": 0.035}, "expected_drop": 0.0123}
    results |= {
        "expected_drop_band": [0.0, 0.0246],
        "ignore": ["model.0", "model.1"],
        "ignore_reason": "the knee of the curve",
    }
    return result


def with_histograms(result):
    """Return a noise budget whose first four items know the histograms of their quantizers, one of them shared."""
    results = result["results"]
    locations = [name for item in results["items"][:4] for name in item["quantizers"]]
    shares = [0.9, 0.09, 0.0, 0.0099, 0.0001]
    made = [
        {
            "quantizers": [name],
            "unit": "step" if "weight" in name else "value",
            "end": 8.0,
            "shares": shares,
            "clip": 4.0,
        }
        for name in locations[1:]
    ]
    shared = made[-2]["quantizers"] + locations[:1]  # the input of the last and that of the first
    made[-2] |= {"quantizers": shared, "end": 1.0, "clip": 1.5}
    d = [{"name": locations[1], "d": 0.01, "share": 0.2}, {"name": shared[0], "d": 0.02, "share": 0.4}]
    results |= {"histograms": made, "quantizers": d}
    return result


def unlabelled():
    """Return a comparison without labels: noise alone, and the drop to expect."""
    result = fidelity()
    results = result["results"]
    results |= {"baseline": None, "best": "per-layer", "tied": ["mse"], "recommended": "per-layer"}
    results["confirmed"] = {"method": "mse", "images": 24, "d": 0.05, "d_ci95": [0.04, 0.06]}
    for row in results["methods"]:
        row |= {"map50_95": None, "drop": None, "drop_ci95": None}
        row |= {"expected_relative_drop": 0.007, "expected_relative_drop_band": [0.0, 0.017]}
        del row["metrics"]
    return result


def search():
    """Return a search with six sets of float layers on the frontier, one without an interval."""
    sets = [
        {
            "float_layers": [f"model.{layer}.conv" for layer in range(layers)],
            "map50_95": 0.36 + 0.001 * layers,
            "drop": 0.006 - 0.001 * layers,
            "drop_ci95": None if layers == 2 else [0.002 - 0.001 * layers, 0.010 - 0.001 * layers],
            "d": 0.04 / (layers + 1),
            "d_predicted": 0.041 / (layers + 1),
            "int8_mac_share": 1 - 0.05 * layers,
            "latency_ms": 6 + 0.2 * layers,
            "latency_predicted_ms": 6.1 + 0.2 * layers,
        }
        for layers in range(6)
    ]
    return former("sensitivity") | {"command": "search", "results": sets[0] | {"frontier": sets}}


def demo():
    """Return a result that holds those of other commands."""
    compared, built, timed = (former(name)["results"] for name in ("compare", "build", "bench"))
    own = {"compare": compared, "careless": compared["methods"][:2], "build": built, "bench": timed, "method": "mse"}
    own |= {"map_float": 0.6, "map_qfloat": 0.5, "map_engine": 0.4, "drop": 0.2, "drop_ci95": [0.1, 0.3]}
    return former("compare") | {"command": "demo", "results": own}


def joined():
    """Return one page's worth of every kind of result."""
    parts = {name: former(name) for name in COMMANDS}
    parts |= {"noise": noise(63), "one": noise(1), "many": noise(300, names=EVIL), "search": search(), "demo": demo()}
    parts |= {"fidelity": fidelity(), "budget": with_histograms(budget()), "unlabelled": unlabelled()}
    parts |= {"diff": diff()}
    reports = [{"directory": f"runs/{name}", **part} for name, part in parts.items()]
    return former("lint") | {"command": "report", "results": {"reports": reports}}


def fidelity():
    """Return a comparison and a fine-tuning with the noise of each method and epoch, in one result."""
    result = former("compare")
    for number, row in enumerate(result["results"]["methods"]):
        row |= {"d": 0.1 / (number + 1), "d_ci95": [0.09 / (number + 1), 0.11 / (number + 1)]}
    result["results"] |= {
        "recommended": "entropy",
        "refine": [{"step": "bias", "d": 0.02}, {"step": "ranges", "d": 0.01}],
    }
    result["results"]["methods"][1] |= {"drop_ci95": None, "drop_ci95_reason": "of one image"}
    result["results"]["epochs"] = [{"epoch": 1, "map50_95": 0.5, "d": 0.02, "loss": 4.0}]
    return result


def diff():
    """Return a comparison of the boxes of two models on two images, with the pictures that a directory may hold."""
    kinds = {"lost": 2, "fell": 34, "gained": 0, "rose": 14, "relabelled": 0, "moved": 3}
    nothing = dict.fromkeys(kinds, 0)
    rows = []
    for name, disagreement, details in (
        ("a", 1.5, [("lost", "person", None, 0.9, None), ("relabelled", "cat", "dog", 0.4, 0.6)]),
        ("b", 0.3, [("rose", "person", "person", 0.1, 0.4)]),
    ):
        keys = ("kind", "class_float", "class_quantized", "score_float", "score_quantized")
        told = [dict(zip(keys, change, strict=True)) for change in details]
        rows.append(
            {
                "image": f"/x/{name}.jpg",
                "d": 0.1,
                "disagreement": disagreement,
                "boxes_float": 3,
                **nothing,
                "details": told,
            }
        )
    threshold = {"conf": 0.25, "advised": 0.19, "change": True, "equal_boxes_conf": 0.19}
    threshold |= {"equal_boxes_conf_ci95": [0.15, 0.24], "advice": "set the threshold to 0.19"}
    group = {"boxes_float": 3, "disagreement": 1.2, **nothing}
    pictures = [
        {"image": f"/x/{name}.jpg", "tiles": [f"pictures/0{at}_a_{side}.webp" for side in ("float", "quantized")]}
        for at, name in ((1, "a"), (2, "b"))
    ]
    results = {"d": 0.61, "d_ci95": [0.5, 0.7], "fidelity_map": 0.78, "boxes_float": 95, "boxes_quantized": 73}
    results |= {"changes": kinds, "threshold": threshold, "changes_by_image": rows, "pictures": pictures}
    results |= {"changes_by_class": [{"class": "person", **group}], "changes_by_size": [{"size": "small", **group}]}
    results["score_quantiles"] = [{"quantile": 0.5, "float": 0.4, "quantized": 0.3, "shift": -0.1}]
    return former("eval") | {"command": "diff", "results": results}


def write_tiles(folder):
    """Write the pictures of :func:`diff` into a directory, 480 pixels wide."""
    (folder / "pictures").mkdir()
    for entry in diff()["results"]["pictures"]:
        for tile in entry["tiles"]:
            Image.new("RGB", (480, 320), (90, 120, 150)).save(folder / tile)
