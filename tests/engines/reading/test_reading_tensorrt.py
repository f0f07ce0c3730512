from __future__ import annotations

import json

import pytest
from written import LAYERS, trt_json, trt_log, trt_profile

from yoloqat.engines.reading import read_reports
from yoloqat.errors import ConfigError, EngineError, ModelError

SOURCES = {
    "8.6 JSON": (trt_json(8), trt_profile(median=False)),
    "10 JSON": (trt_json(10), trt_profile()),
    "11 JSON": (trt_json(11), trt_profile()),
    **{f"{form} log": (trt_log(form),) for form in ("8.2", "8.6", "10 detailed")},
}


def written(tmp_path, *texts):
    paths = [tmp_path / f"{index}.txt" for index in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


@pytest.mark.parametrize("source", SOURCES)
def test_every_generation_tells_the_same(source, tmp_path):
    report = read_reports(written(tmp_path, *SOURCES[source]))
    short = {"Float": "f32", "Half": "f16", "Int8": "i8"}
    assert [layer.name for layer in report.layers] == [layer.name for layer in LAYERS]
    assert [layer.precision_in for layer in report.layers] == [short[layer.reads[0][1]] for layer in LAYERS]
    assert [layer.precision_out for layer in report.layers] == [short[layer.writes[0][1]] for layer in LAYERS]
    assert [layer.ms for layer in report.layers] == [layer.ms for layer in LAYERS]
    assert [layer.name for layer in report.reformats] == ["Reformatting CopyNode for Input Tensor 1 to cat"]
    assert {tensor.shape for layer in report.layers for tensor in layer.inputs + layer.outputs} == {(1, 8, 4, 4)}
    assert {layer.elements for layer in report.layers} == {128}
    assert report.layers[1].nodes[-3:] == ("stem", "stem/sig", "stem/mul")
    assert report.ms == pytest.approx(0.395)
    results = report.results([])
    assert (results["int8_layers"], results["reformats_ms"], results["runtime"]) == (5, 0.015, "tensorrt")
    assert results["layers"][2] == {
        "name": "neck.weight + neck",
        "type": "CaskConvolution",
        "kind": "compute",
        "precision_in": "i8",
        "precision_out": "f16",
        "ms": 0.04,
        "nodes": ["neck"] if report.layers[2].nodes == ("neck",) else ["neck.weight", "neck"],
    }


def test_the_last_engine_and_profile_of_a_log_count(tmp_path):
    first = trt_log("8.6").replace("side", "another").replace("0.0600", "0.9000")
    report = read_reports(written(tmp_path, f"{first}\n{trt_log('8.6')}"))
    assert "side" in {name for layer in report.layers for name in layer.nodes}
    assert report.ms == pytest.approx(0.395)


def test_the_file_that_tells_most_types_gives_the_layers(tmp_path):
    names = json.dumps({"Layers": [layer.name for layer in LAYERS], "Bindings": []})
    report = read_reports(written(tmp_path, names, trt_profile(), trt_json(11)))
    assert report.detailed
    assert not read_reports(written(tmp_path, names)).detailed
    assert "no file tells types" in str(read_reports(written(tmp_path, names)).table("x"))


def test_what_a_profile_alone_names_is_kept(tmp_path):
    profile = [*json.loads(trt_profile()), {"name": "[trainStation1]", "averageMs": 0.5}]
    report = read_reports(written(tmp_path, trt_json(10), json.dumps(profile)))
    assert (report.layers[-1].name, report.layers[-1].ms) == ("[trainStation1]", 0.5)
    assert report.ms == pytest.approx(0.895)


def test_the_table_is_one_line_a_layer_and_says_what_it_leaves_out(tmp_path):
    report = read_reports(written(tmp_path, trt_json(10), trt_profile()))
    table = report.table("model", top=3)
    assert [row[0] for row in table.rows] == ["out", "side", "stem +2"]
    assert table.rows[0][1:] == ("f32", "f32", "0.0800", "20.3 %")
    assert table.caption == "9 more layers not shown\nall layers: 0.3950 ms"
    assert [row[0] for row in report.table("model", top=0).rows][:2] == ["stem/input/QuantizeLinear", "stem +2"]
    assert max(map(len, str(report.table("model")).splitlines())) <= 80


def test_files_of_two_engines(tmp_path):
    with pytest.raises(
        EngineError, match=r"'.*0.txt' and '.*1.txt' have no layer in common, e.g. 'stem/input/Q.*' and 'other'"
    ):
        read_reports(written(tmp_path, trt_json(10), '[{"name": "other", "averageMs": 1}]'))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nothing of an engine", r"0.txt' begins with 'nothing of an engine' and tells of no layer"),
        ("", r"0.txt' is empty and tells of no layer"),
        ("[1, 2]", r"begins with '\[1, 2\]' and tells of no layer"),
        ('{"Layers": [{"Name"', r"0.txt' is not as its tool writes it \(JSONDecodeError: "),
        ('{"other": 1}', r"not as its tool writes it \(KeyError: 'Layers'\)"),
        ('[{"name": "a", "averageMs": "much"}]', r"not as its tool writes it \(ValueError: .*'much'"),
    ],
)
def test_a_file_that_tells_of_no_engine(text, told, tmp_path):
    with pytest.raises(EngineError, match=told):
        read_reports(written(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"cannot read '.*gone.json' \(No such file or directory\)"):
        read_reports([tmp_path / "gone.json"])
    with pytest.raises(ConfigError, match=r"files are \[\]; expected at least one"):
        read_reports([])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"Layers": "x"}', "'Layers' is 'x', no list"),
        ('{"Layers": [7]}', "a layer is 7, neither an object nor a name"),
        ('[{"count": 1}, {"name": "a", "averageMs": NaN}]', "'a' takes nan ms"),
        ('[{"count": 1}, {"name": "a", "averageMs": -1}]', "'a' takes -1.0 ms"),
        ("  ", "is empty and tells of no layer"),
    ],
)
def test_json_that_no_tool_writes_is_refused(tmp_path, text, told):
    path = tmp_path / "layers.json"
    path.write_text(text)
    with pytest.raises(EngineError, match=f"'{path}' .*{told}"):
        read_reports([path])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_file_that_a_shell_of_windows_wrote_is_read(tmp_path, encoding):
    path = tmp_path / "layers.json"
    path.write_bytes('{"Layers": ["conv"],\r\n"Bindings": []}'.encode(encoding))
    assert [layer.name for layer in read_reports([path]).layers] == ["conv"]


def test_layers_of_two_engines_are_refused(tmp_path):
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path in paths:
        path.write_text(json.dumps({"Layers": [f"conv of {path.stem}"]}))
    with pytest.raises(
        EngineError, match=r"a.json' and '.*b.json' have no layer in common, e.g. 'conv of a' and 'conv of b'"
    ):
        read_reports(paths)
    assert len(read_reports([paths[0], paths[0]]).layers) == 1
