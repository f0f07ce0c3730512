from __future__ import annotations

import ast
import json

import pytest
from onnx import helper

from yoloqat.config import ExportConfig
from yoloqat.errors import ExportError
from yoloqat.export.metadata import KEY, named_quantizers, set_metadata, ultralytics_metadata, yoloqat_metadata
from yoloqat.predictor import ModelInfo


def test_values_are_the_literals_that_ultralytics_evaluates():
    info = ModelInfo({0: "it's", 1: "dog"}, stride=16, task="segment", end2end=True)
    texts = {key: str(value) for key, value in ultralytics_metadata(info, ExportConfig(imgsz=64, batch=2)).items()}
    assert ast.literal_eval(texts["names"]) == info.names
    assert ast.literal_eval(texts["imgsz"]) == [64, 64]
    assert ast.literal_eval(texts["args"]) == {"batch": 2, "dynamic": False, "half": False, "nms": False}
    assert ast.literal_eval(texts["end2end"]) is True
    assert (int(texts["stride"]), int(texts["batch"]), int(texts["channels"]), texts["task"]) == (16, 2, 3, "segment")
    assert {"description", "author", "date", "version"} <= set(texts)


def test_own_entry_is_json():
    own = json.loads(
        yoloqat_metadata(
            locations=["a/input/QuantizeLinear"], quantizers={"a/input/QuantizeLinear": "a"}, aliases={"b": "a"}
        )
    )
    assert (own["sites"], own["aliases"], own["schema"]) == (["a/input/QuantizeLinear"], {"b": "a"}, 1)


def test_properties_are_replaced_and_the_graph_stays(traced, metadata):
    result = set_metadata(traced, metadata)
    assert {entry.key: entry.value for entry in result.model.metadata_props} == {k: str(v) for k, v in metadata.items()}
    assert result.model.graph == traced.graph
    again = set_metadata(result.model, metadata)
    assert not again.modified
    assert again.model is result.model


def test_missing_keys_are_named(traced, metadata):
    short = {key: value for key, value in metadata.items() if key not in ("names", "task")}
    with pytest.raises(ExportError, match="metadata lacks names, task"):
        set_metadata(traced, short)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"quantizers": 3}', "[" * 100_000, '{"quantizers": [["a", "b"]]}']
)
def test_an_entry_that_is_not_ours_names_no_quantizers(text):
    model = helper.make_model(helper.make_graph([], "empty", [], []))
    helper.set_model_props(model, {KEY: text})
    assert named_quantizers(model) == {}
