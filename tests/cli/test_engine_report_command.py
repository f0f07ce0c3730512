from __future__ import annotations

import json

import onnx
from tiny_qdq import build

ENGINE = {
    "Layers": [
        {
            "Name": name,
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": read, "Format/Datatype": kind}],
            "Outputs": [{"Name": written, "Format/Datatype": out}],
        }
        for name, read, kind, written, out in (
            ("one", "images", "Int8", "a", "Half"),
            ("two", "a", "Half", "b", "Half"),
            ("three/QuantizeLinear", "b", "Half", "c", "Int8"),
            ("three", "c", "Int8", "output0", "Half"),
        )
    ]
}
TIMES = [{"count": 10}, *({"name": layer["Name"], "averageMs": 0.25} for layer in ENGINE["Layers"])]


def test_layers_and_losses_are_shown_and_kept(cli, tmp_path):
    layers, times = tmp_path / "layers.json", tmp_path / "times.json"
    layers.write_text(json.dumps(ENGINE))
    times.write_text(json.dumps(TIMES))
    ran = cli("engine-report", layers, times, "--layers", 2)
    assert (ran.code, ran.err) == (0, "")
    results = ran.result["results"]
    assert [layer["precision_out"] for layer in results["layers"]] == ["f16", "f16", "i8", "f16"]
    assert set(results["layers"][0]) == {"name", "type", "kind", "precision_in", "precision_out", "ms", "nodes"}
    assert (results["reformats"], results["ms"]) == ([], 1.0)
    [found] = results["findings"]
    assert (found["rule"], found["nodes"], found["ms"]) == ("float-island", ["two"], 0.5)
    shown = " ".join(ran.out.split())
    assert "layers.json: 4 layers, 0 reformats" in shown
    assert "2 more layers not shown" in shown
    assert "1 place that another file would save" in shown
    page = (ran.directory / "report.html").read_text()
    assert "4 layers run in 1 ms, 2 of them in INT8; 1 place to save time, with 50.0 % of the time." in page
    assert "What costs time" in page
    assert [entry["path"] for entry in ran.result["provenance"]["inputs"]["files"]] == [str(layers), str(times)]


def test_mistakes_are_one_line(cli, tmp_path):
    (tmp_path / "notes.txt").write_text("no engine")
    ran = cli("engine-report", tmp_path / "notes.txt")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "notes.txt' begins with 'no engine' and tells of no layer" in ran.err
    ran = cli("engine-report", tmp_path / "notes.txt", "--layers", -1)
    assert (ran.code, "--layers is -1" in ran.err) == (2, True)


def test_the_prediction_of_the_file_is_set_beside_it(cli, tmp_path):
    onnx.save(build(), tmp_path / "model.onnx")
    named = json.loads(json.dumps(ENGINE).replace('"one"', '"first"').replace('"three"', '"second"'))
    (tmp_path / "layers.json").write_text(json.dumps(named))
    ran = cli("engine-report", tmp_path / "layers.json", "--onnx", tmp_path / "model.onnx", "--gpu", "t4")
    assert (ran.code, ran.err) == (0, "")
    found = ran.result["results"]["prediction"]
    items = {item["engine_layer"]: item for item in found["items"]}
    assert (items["first"]["predicted_out"], items["first"]["precision_out"], items["first"]["agrees"]) == (
        "i8",
        "f16",
        False,
    )
    assert items["second"]["agrees"]
    assert found["gpu"] == "t4"
    assert items["first"]["predicted_ms"] > 0
    assert "against the prediction: 1 layer as predicted, 1 other" in " ".join(ran.out.split())
    (tmp_path / "other.json").write_text(json.dumps({"Layers": ["elsewhere"]}))
    ran = cli("engine-report", tmp_path / "other.json", "--onnx", tmp_path / "model.onnx")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "other.json' computes a node of '" in ran.err
    assert "e.g. 'elsewhere'; expected the file that the engine was built from; name that file as --onnx" in ran.err
