from __future__ import annotations

import pytest
from made_results import EVIL, budget, demo, fidelity, former, noise, search, unlabelled, with_histograms

from yoloqat.report.accuracy import classes_section, frontier_section, methods_section, scores_section, training_section
from yoloqat.report.decisions import decisions_section
from yoloqat.report.engine import bench_section, kind_of, lint_section, map_section, parity_section
from yoloqat.report.noise import budget_section, items_section, refinement_section
from yoloqat.report.page import report_of
from yoloqat.report.verdict import verdict


def facts(section):
    return {fact.label: fact.value for fact in section.facts}


def told(result):
    return report_of(result, place="").verdict


def test_a_budget_tells_whose_noise_it_is():
    section = budget_section(noise(6)["results"])
    assert facts(section) == {
        "noise d": "0.04",
        "d predicted": "0.04",
        "items that make half of the noise": "1 of 6",
    }
    assert section.facts[0].note == "95 % interval [0.038, 0.042], on 48 images"
    bars, left, coverage = section.charts
    assert [row["share"] for row in bars.spec["data"]["values"]][:2] == pytest.approx([32 / 63, 16 / 63])
    assert left.spec["data"]["values"][-1] == {"x": 6.0, "y": pytest.approx(0.0, abs=1e-12)}
    assert coverage.spec["data"]["values"][3] == {"x": 3.0, "y": 0.5}
    assert section.folded[0].rows[0] == ("0", "0.04", "100.0 %")
    assert (
        told(noise(1))
        == "tiny.pt: quantization adds the noise d = 0.04; model.0.m.0.cv1.conv causes 100 % of it, the most of 1 item."
    )


def test_shares_are_drawn_from_the_largest_however_the_items_are_ranked():
    results = noise(6)["results"]
    results["items"].reverse()
    rows = budget_section(results).charts[0].spec["data"]["values"]
    assert [row["name"] for row in rows][:2] == ["model.0.m.0.cv1.conv", "model.0.m.1.cv1.conv"]
    assert [row["total"] for row in rows] == sorted(row["total"] for row in rows)


def test_a_scan_without_noise_has_no_budget_and_one_without_effects_no_effects():
    assert budget_section(former("sensitivity")["results"]) is None
    assert items_section(noise(3)["results"]).charts == ()
    assert items_section(former("bench")["results"]) is None


def test_items_have_the_columns_that_are_known():
    table = items_section(noise(3, names=EVIL)["results"]).tables[0]
    assert table.columns == ("name", "d", "95 % interval of d", "share", "quantizers")
    assert [row[0] for row in table.rows] == list(EVIL)
    assert table.rows[1][2:] == ("-", "28.57 %", "input, weight")
    section = items_section(former("sensitivity")["results"])
    assert section.tables[0].columns == (
        "name",
        "mAP50-95",
        "drop",
        "effect",
        "95 % interval of effect",
        "images",
        "tied",
        "SQNR dB",
        "quantizers",
    )
    assert facts(section) == {
        "items that differ from zero": "0 of 8",
        "images the others would need": "100",
        "images": "10",
    }
    assert section.tables[0].rows[0][-1] == "conv input, conv weight"
    assert section.notes[0].startswith("Rank correlation of the effects with: sqnr_db +0.86, nmse +0.86")
    assert not any(row["strong"] for row in section.charts[0].spec["data"]["values"])


def test_methods_are_ordered_by_fidelity_where_it_was_measured():
    by_map = methods_section(former("compare")["results"])
    scores = [float(row[1]) for row in by_map.tables[0].rows]
    assert scores == sorted(scores, reverse=True)
    assert by_map.tables[0].rows[0][0] == "per-layer"
    assert by_map.tables[0].rows[0][-1] == "best"
    both = methods_section(fidelity()["results"])
    noises = [row["value"] for row in both.charts[0].spec["data"]["values"]]
    assert noises == sorted(noises)
    assert both.tables[0].columns[:6] == ("method", "d", "95 % interval of d", "mAP50-95", "drop", "95 % interval")
    assert next(row for row in both.tables[0].rows if row[0] == "entropy")[5] == "-"
    assert "recommended" in next(row for row in both.tables[0].rows if row[0] == "entropy")[-1]
    assert told(fidelity()).endswith("Recommended, for the least noise among them: entropy.")


def test_methods_are_compared_without_labels():
    section = methods_section(unlabelled()["results"])
    assert section.tables[0].columns == ("method", "d", "95 % interval of d", "drop to expect", "seconds", "")
    assert section.tables[0].rows[0] == (
        "per-layer",
        "0.01429",
        "[0.01286, 0.01571]",
        "0.7 % of the float mAP (0.0 % to 1.7 %)",
        "0.15",
        "best, recommended",
    )
    assert [chart.title for chart in section.charts] == ["Noise d of each method, the smallest first"]
    assert section.facts == ()
    assert section.notes == ("Chosen on one half of the images: mse; on the other half its noise d 0.05 [0.04, 0.06].",)
    assert told(unlabelled()) == (
        "per-layer makes the least noise, d = 0.01429 [0.01286, 0.01571]; 1 other method cannot be told apart from it; "
        "as a rule a drop of 0.7 % of the float mAP (0.0 % to 1.7 %)."
    )


def test_a_curve_shows_what_was_measured_beside_what_was_estimated():
    section = budget_section(budget()["results"])
    assert facts(section) == {
        "noise d": "0.04",
        "d predicted": "0.04",
        "d of weights alone": "0.01",
        "d of activations alone": "0.035",
        "items that make half of the noise": "1 of 6",
        "drop of mAP to expect": "0.0123",
    }
    assert section.facts[-1].note == "by rule of thumb, 0.0000 to 0.0246"
    assert section.notes == ("ignore.txt leaves 2 layers float (model.0, model.1): the knee of the curve.",)
    curve = section.charts[1]
    assert curve.title == "Estimated noise d as the noisiest layers are left float, and as measured"
    assert curve.spec["data"]["values"][0] == {"x": 0.0, "y": pytest.approx(0.044)}
    assert curve.spec["layer"][-1]["data"]["values"] == [
        {"name": "measured", "x": 2.0, "y": 0.011, "low": 0.010, "high": 0.012},
        {"name": "measured", "x": 4.0, "y": 0.002},
    ]
    assert len(curve.spec["layer"]) == 3
    table = section.folded[0]
    assert table.columns == (
        "float layers",
        "the last of them",
        "predicted d",
        "estimated d",
        "measured d",
        "INT8 multiply-adds",
        "drop to expect",
    )
    assert table.rows[2][4:] == ("0.011 [0.01, 0.012]", "66.7 %", "0.0080 (0.0000 to 0.0180)")
    nothing = budget_section(budget()["results"] | {"ignore": [], "ignore_reason": "nothing pays"})
    assert nothing.notes == ("ignore.txt leaves 0 layers float (none): nothing pays.",)


def test_classes_are_ordered_by_drop_where_two_models_were_scored():
    alone = classes_section(former("eval")["results"])
    assert [row["name"] for row in alone.charts[0].spec["data"]["values"]] == ["box", "disc", "star"]
    assert alone.folded[0].columns == ("class", "objects", "AP50-95", "AP50")
    both = classes_section(former("sensitivity")["results"])
    assert [row["name"] for row in both.charts[0].spec["data"]["values"]] == ["box", "disc", "star"]
    assert both.folded[0].rows[1] == ("box", "10", "0.7211", "0.7211", "0.1455", "+0.5755")
    best = classes_section(former("compare")["results"])
    assert best.charts[0].title.endswith(", per-layer")


def test_a_training_shows_its_epochs_beside_float_and_calibration():
    section = training_section(former("finetune")["results"])
    assert [chart.title for chart in section.charts] == ["mAP50-95 after each epoch", "loss after each epoch"]
    levels = section.charts[0].spec["layer"][1]["data"]["values"]
    assert [level["name"] for level in levels] == ["float", "calibrated"]
    assert [chart.title for chart in training_section(fidelity()["results"]).charts][1] == "noise d after each epoch"
    assert told(former("finetune")).startswith("No epoch of 1 was better than calibration: it loses 0.1882 mAP")


@pytest.mark.parametrize(("source", "told_ms"), [("tensorrt profile", True), ("multiply-adds", False)])
def test_a_latency_that_was_not_measured_is_told_as_predicted(source, told_ms):
    found = search()
    results = found["results"]
    results |= {"latency_ms": None, "latency_predicted_ms": 6.1, "latency_source": source, "latency_measured": False}
    assert frontier_section(results).text.endswith(f"Latency by {source}, predicted: no engine was timed here.")
    assert (f"; it is predicted to take 6.1 ms by {source}" in told(found)) == told_ms
    assert "predicted" not in frontier_section(search()["results"]).text


def test_a_frontier_is_drawn_over_latency_where_every_set_was_timed():
    sets = search()["results"]
    titles = [chart.title for chart in frontier_section(sets).charts]
    assert titles == [
        "Drop over latency, ms",
        "Noise d over latency, ms",
        "Predicted noise d over predicted latency, ms",
    ]
    del sets["frontier"][0]["latency_ms"]
    assert frontier_section(sets).charts[0].title == "Drop over predicted latency, ms"
    del sets["frontier"][0]["latency_predicted_ms"]
    sets["frontier"][3]["drop"] = None
    titles = [chart.title for chart in frontier_section(sets).charts]
    assert titles[0] == "Noise d over share of multiply-adds in INT8"
    assert frontier_section(sets).tables[0].rows[0][0] == "none (chosen)"
    assert frontier_section(sets).tables[0].rows[4][0] == "4: model.0.conv, model.1.conv, model.2.conv, ..."


def test_a_search_without_labels_tells_its_noise_and_its_goal_and_has_no_empty_columns():
    found = search()["results"] | {"goal": {"max_noise": 0.05}, "met": True}
    for row in (found, *found["frontier"]):
        row |= {"map50_95": None, "drop": None, "drop_ci95": None}
    columns = frontier_section(found).tables[0].columns
    assert columns == ("float layers", "d", "predicted d", "INT8 multiply-adds", "ms", "predicted ms")
    assert "its noise d is 0.04; it takes 6 ms; it keeps to a noise d of at most 0.05." in verdict("search", found, "")
    found |= {"goal": {"max_latency": 2.5}, "met": False}
    assert verdict("search", found, "a.pt").endswith(
        "it takes 6 ms; it is the nearest, no set keeps to at most 2.5 ms."
    )


def test_refinement_and_calibration_images_are_drawn_where_they_are_told():
    assert refinement_section(former("calibrate")["results"]) is None
    assert [chart.title for chart in refinement_section(fidelity()["results"]).charts] == [
        "Noise d after each step of the refinement"
    ]
    curve = [{"images": 1, "amax_change": 0.5}, {"images": 2, "amax_change": 0.1}]
    section = refinement_section({"curve": curve})
    assert section.charts[0].spec["data"]["values"] == [{"x": 1.0, "y": 0.5}, {"x": 2.0, "y": 0.1}]


@pytest.mark.parametrize(
    ("precision", "kind"),
    [
        *((text, "int8") for text in ("u8", "i8", "int8", "Int8", "INT8", "kINT8")),
        *((text, "float") for text in ("f32", "f16", "bf16", "float32", "FP16", "fp32", "Half", "float", "TF32")),
        *((text, "other") for text in ("-", "i64", "boolean", "u16")),
    ],
)
def test_precisions_of_every_runtime_are_told_apart(precision, kind):
    assert kind_of(precision) == kind


def test_the_map_follows_the_data_and_counts_what_runs_in_integers():
    section = map_section(former("build")["results"])
    assert facts(section)["convolutions in INT8"] == "22 of 27"
    blocks = [block for stage in section.stages for block in stage.blocks]
    assert [sum(block.kind == kind for block in blocks) for kind in ("int8", "float", "other")] == [22, 5, 0]
    assert section.stages[0].name == "model.0"
    assert section.stages[0].about.startswith("1 of 1 in INT8, ")
    for stage in section.stages:
        assert sum(block.weight for block in stage.blocks) == pytest.approx(1.0)
    assert len(section.folded[0].rows) == 92
    inspected = map_section(former("inspect")["results"])
    assert facts(inspected) == {"convolutions in INT8": "22 of 27", "multiply-adds in INT8": "97.0 %"}
    assert sum("INT8" in stage.about for stage in inspected.stages) == len(inspected.stages)


def test_a_map_of_an_engine_report_or_a_prediction_names_what_it_has():
    layers = [
        {"name": "/model.0/conv + /model.0/act", "precision_in": "Int8", "precision_out": "Half", "ms": 0.5},
        {"name": "reformat", "precision_in": "Half", "precision_out": "Half", "ms": 0.25},
    ]
    section = map_section({"layers": layers, "reformats": ["reformat"]})
    assert [stage.name for stage in section.stages] == ["model.0", "reformat"]
    assert [stage.blocks[0].kind for stage in section.stages] == ["int8", "float"]
    assert section.folded[0].rows[0] == ("/model.0/conv + /model.0/act", "-", "Int8 to Half", "", "-", "0.500")
    assert facts(section) == {"reformats": "1"}
    predicted = map_section(
        {"predicted": [{"layer": "a.b", "precision_in": "int8", "precision_out": "int8", "macs": 10}]}
    )
    assert predicted.stages[0].blocks[0].about == "a.b, int8, 0.0 M multiply-adds"
    assert map_section(former("calibrate")["results"]) is None


def test_the_bench_shows_its_spread():
    section = bench_section(former("bench")["results"])
    rows = section.charts[0].spec["data"]["values"]
    assert [row["name"] for row in rows] == ["model.onnx (onnxruntime)", "model_openvino (openvino)"]
    assert rows[0]["p50"] < rows[0]["p95"] < rows[0]["p99"]
    assert section.text == "AMD EPYC, 1 thread, cpu."
    assert bench_section({"items": [{"artifact": "a", "latency_ms": {"p50": None}}]}).charts == ()


def test_errors_come_before_warnings_before_notes():
    findings = [
        {"rule": rule, "severity": severity, "nodes": list("abcdef"), "message": "m", "hint": "h"}
        for rule, severity in (("1", "note"), ("2", "error"), ("3", "warning"))
    ]
    results = {"errors": 1, "warnings": 1, "notes": 1, "findings": findings}
    section = lint_section(results)
    assert [row[:2] for row in section.tables[0].rows] == [("error", "2"), ("warning", "3"), ("note", "1")]
    assert section.tables[0].rows[0][-1] == "a, b, c, d and 2 more"
    assert facts(section) == {"errors": "1", "warnings": "1", "notes": "1"}
    clean = lint_section({"errors": 0, "warnings": 0, "notes": 0, "findings": []})
    assert (clean.text, clean.tables) == ("Nothing was found.", ())
    assert facts(lint_section(former("export")["results"])) == {"errors": "0", "warnings": "1"}
    assert lint_section(former("bench")["results"]) is None


def test_parity_names_the_worst_node_first():
    nodes = [
        {"layer": name, "flip_share": share, "max_steps": 1, "elements": 9} for name, share in (("a", 0.0), ("b", 0.1))
    ]
    results = {
        "node_max_steps": 1,
        "node_flip_share": 0.1,
        "nodes": nodes,
        "thread_noise": 0.0018,
        "map_difference": 0.0,
    }
    section = parity_section(results)
    assert [row[0] for row in section.folded[0].rows] == ["b", "a"]
    assert facts(section)["elements that differ"] == "10.000 %"
    assert facts(section)["difference by threads alone"] == "0.0018"
    assert parity_section(former("export")["results"]) is None


def test_accuracy_tells_sizes_and_why_some_have_none():
    section = scores_section("eval", former("eval")["results"], "tiny.pt")
    assert facts(section) == {"Float, mAP50-95": "0.6360"}
    assert section.tables[0].rows[-1] == ("large", "-")
    assert section.notes[1] == "map_large: no object of this size counts"
    second = {"map50_95": 0.5, "d": 0.04, "d_ci95": [0.03, 0.05], "box_disagreement": 0.1, "fidelity_map": 0.9}
    assert facts(scores_section("eval", second, "a.safetensors")) == {
        "QFloat, mAP50-95": "0.5000",
        "noise d": "0.04",
        "box disagreement": "0.1",
        "mAP against the float model's boxes": "0.9",
    }
    task = {"map50_95": 0.5, "task_metrics": {"task": "segment", "map50_95_mask": 0.25, "images": 3}}
    assert scores_section("eval", task, "a.pt").tables[0].rows == (("map50_95_mask", "0.2500"),)
    built = {"map_engine": 0.3, "map_qfloat": 0.31, "qfloat_difference": 0.01, "qfloat_difference_ci95": [-0.01, 0.02]}
    assert facts(scores_section("build", built, ""))["QFloat minus engine"] == "+0.0100"


def test_a_way_holds_the_parts_of_its_steps():
    report = report_of(demo(), place="")
    assert [section.title for section in report.sections] == [
        "Accuracy",
        "What a careless method loses",
        "Calibration methods",
        "Latency",
        "INT8 map",
        "Classes",
    ]
    assert report.verdict == "Calibrated by mse, the INT8 engine scores 0.4000: it loses 0.2000 mAP [+0.1000, +0.3000]."


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("eval", "tiny.pt scores 0.6360 mAP50-95 on 10 images."),
        ("export", "22 of 27 convolutions of tiny.pt are quantized; the lint finds 0 errors and 1 warning."),
        ("build", "22 of 27 convolutions of model.onnx, 100 % of the quantized multiply-adds, run in INT8."),
        ("lint", "The lint of model.onnx finds 0 errors, 1 warning and 0 notes."),
        ("inspect", "22 of 27 layers of tiny.pt, 97 % of the multiply-adds, would be quantized."),
        ("bench", "model_openvino takes 0.52 ms, 1.33 times as fast as model.onnx."),
        (
            "sensitivity",
            "tiny.pt: 0 of 8 items differ from zero in mAP on 10 images; the largest effect is that of model.4, +0.0418.",
        ),
    ],
)
def test_what_was_found_is_one_sentence(command, sentence):
    assert told(former(command)) == sentence


def test_a_search_and_one_that_is_not_known_have_a_verdict_too():
    assert verdict("search", search()["results"], "a.pt").startswith(
        "a.pt with 0 layers left float: it loses 0.0060 mAP"
    )
    tied = [{"name": "a", "share": 0.6, "effect": -0.01}, {"name": "b", "share": 0.4, "effect": 0.02}]
    told = verdict("sensitivity", {"items": tied, "summary": {"differ_from_zero": 0, "items": 2}}, "a.pt")
    assert told.endswith("the largest effect is that of b, +0.0200."), (
        "items that are tied with zero stand by their share"
    )
    assert verdict("anything", {}, "a.pt") == "`yoloqat anything` is done."
    assert verdict("diff", {"d": 0.04}, "a.pt") == "a.pt: d = 0.04."
    items = [{"artifact": "a", "latency_ms": {"p50": 2.0}}]
    assert verdict("bench", {"items": items}, "") == "a takes 2.00 ms, alone in the run."
    assert verdict("calibrate", {"quantized_layers": 1, "method": "max"}, "a.pt") == "a.pt, 1 layer quantized by max."


def test_a_budget_knows_the_histograms_of_each_item_the_noisiest_first():
    made = with_histograms(budget())
    found = budget_section(made["results"]).histograms
    first, last = (made["results"]["items"][index]["name"] for index in (0, 3))
    names = [[found["quantizers"][index]["name"] for index in found["items"][name]] for name in (first, last)]
    assert names == [["input", "weight"], ["input", "weight"]]
    assert len(found["items"]) == 4
    shared, weight = (found["quantizers"][index] for index in found["items"][first])
    assert (shared["end"], shared["clip"]) == (1.0, 1.5)
    assert shared["about"] == "values to 1, range ends at 1.5; d alone 0.02, 40.0 % of the noise"
    assert weight["about"].startswith(
        "values to 8, range ends at 4 steps of its channel; 1.000 % beyond it; d alone 0.01"
    )
    assert budget_section(budget()["results"]).histograms == {}


def test_decisions_stand_with_their_reasons_and_the_engines_that_were_tried():
    row = {"name": "all in INT8", "map50_95": 0.4, "drop": 0.01, "drop_ci95": [0.0, 0.02], "d": 0.1, "float_layers": []}
    results = {
        "decisions": [{"step": "verdict", "decision": "all in INT8: met", "reason": "drop 0.01"}],
        "candidates": [row, row | {"name": "1 layer float", "float_layers": ["model.0.conv"], "int8_mac_share": 0.9}],
    }
    section = decisions_section(results)
    decided, engines = section.tables
    assert decided.rows == (("verdict", "all in INT8: met", "drop 0.01"),)
    assert engines.rows[1] == (
        *("1 layer float", "0.4000", "+0.0100", "[+0.0000, +0.0200]", "0.1", "90.0 %", "model.0.conv"),
    )
    assert decisions_section({"decision": 1}) is None


def test_the_verdict_of_a_limit_is_in_the_sentence():
    limit = {"verdict": "met", "limit": 0.005, "images": 110}
    told = verdict("quantize", {"float_layers": [], "drop": None, "verdict": limit}, "a.pt")
    assert told.endswith("; the limit of 0.005 is met on 110 images that took no part.")
