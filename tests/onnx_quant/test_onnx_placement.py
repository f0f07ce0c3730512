from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import Graph, yolox
from onnx import numpy_helper

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.errors import ConfigError, ModelError, PatternError
from yoloqat.onnx_graph.operators import QUANTIZERS
from yoloqat.onnx_quant.float_graph import float_graph, node_path
from yoloqat.onnx_quant.placement import place


def residual_graph() -> onnx.ModelProto:
    """Return a block with a skip, a depthwise layer, a pool joined with its input, and a head of one layer."""
    g = Graph()
    stem = g.silu("stem", g.conv("/model.0/conv/Conv", "images", (3, 8), kernel=3))
    branch = g.silu("branch", g.conv("/model.1/cv1/Conv", stem, (8, 8), kernel=3))
    added = g.add("Add", "/model.1/Add", stem, branch)
    depthwise = g.conv("/model.2/conv/Conv", added, (8, 8), kernel=3, group=8)
    lone = g.add("Add", "/model.2/Add", added, depthwise)
    pooled = g.add("MaxPool", "pool", lone, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    joined = g.add("Concat", "joined", lone, pooled, axis=1)
    last = g.conv("/model.3/conv/Conv", joined, (16, 8))
    g.conv("/model.4/conv/Conv", last, (8, 6))
    return g.model({"/model.4/conv/Conv_out": (1, 6, 32, 32)})


NORMAL = float_graph(residual_graph(), "residual.onnx")
DEFAULT = QuantConfig()


def test_a_file_gets_the_quantizers_that_its_torch_model_gets(calibrated: Path, tiny_onnx: Path) -> None:
    def scales(path: Path) -> dict[str, np.ndarray]:
        model = onnx.load(path)
        held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        return {n.name: held[n.input[1]] for n in model.graph.node if n.op_type in QUANTIZERS}

    own, torch = scales(calibrated / "model.onnx"), scales(tiny_onnx)
    assert own.keys() == torch.keys()
    for name, scale in own.items():
        np.testing.assert_allclose(scale, torch[name], rtol=1e-5, err_msg=name)


def test_a_skip_is_quantized_where_the_branch_follows_a_quantized_layer() -> None:
    found = place(NORMAL, DEFAULT)
    assert [use.location for use in found.uses] == [
        "model.0.conv._input_quantizer",
        "model.1.cv1._input_quantizer",
        "model.1._residual_quantizer",
        "model.3.conv._input_quantizer",
    ]
    skip = found.uses[2]
    assert (skip.tensor, skip.position, skip.of_layer) == ("stem_mul_out", 0, False)
    assert found.owners["model.1._residual_quantizer"] == "model.1.cv1._input_quantizer"
    assert found.layers == ("model.0.conv", "model.1.cv1", "model.3.conv")
    assert found.plan.floats == {
        "model.2.conv": "depthwise convolution, faster in FP16",
        "model.4.conv": "gives the predictions",
        "model.2 (residual)": "the Add follows no quantized layer",
    }


def test_the_options_decide_as_they_do_for_a_torch_model() -> None:
    def locations(**options: object) -> list[str]:
        return [use.location.removesuffix("_quantizer") for use in place(NORMAL, replace(DEFAULT, **options)).uses]

    assert "model.1._residual" not in locations(adds="none")
    assert {"model.1._residual", "model.1._branch", "model.2._branch"} <= set(locations(adds="both"))
    assert {"model.2.conv._input", "model.2._residual"} <= set(locations(depthwise=True))
    assert "model.4.conv._input" in locations(quantize_head=True)
    assert "model.1._residual" not in locations(ignore=("model.1",)), "its Add follows a float layer"


def test_integers_pass_through_pools_concats_and_slices_with_one_scale() -> None:
    both = place(NORMAL, replace(DEFAULT, adds="both"))
    assert both.owners["model.3.conv._input_quantizer"] == "model.3.conv._input_quantizer"
    wide = replace(DEFAULT, depthwise=True, quantize_head=True)
    g = Graph()
    first = g.conv("a", "images", (3, 8))
    second = g.conv("b", first, (8, 8))
    joined = g.add("Concat", "join", first, second, axis=1)
    g.conv("c", joined, (16, 4))
    model = float_graph(g.model({"c_out": (1, 4, 32, 32)}), "g.onnx")
    assert place(model, wide).owners["c._input_quantizer"] == "b._input_quantizer"
    alone = place(model, replace(wide, merge="tensor")).owners
    assert alone["c._input_quantizer"] == "c._input_quantizer"
    unshared = place(model, replace(wide, unmerge=("c._input_quantizer",))).owners
    assert unshared["c._input_quantizer"] == "c._input_quantizer"


@pytest.mark.parametrize("name", ["/model.3/conv/Conv_out", "/model.3/conv/Conv", "model.3.conv"])
def test_heads_can_be_named_by_a_tensor_or_a_node(name: str) -> None:
    found = place(NORMAL, DEFAULT, (name,))
    assert found.layers == ("model.0.conv", "model.1.cv1")
    assert found.plan.floats["model.3.conv"] == "gives the predictions"
    assert found.plan.floats["model.4.conv"] == "behind the heads"


def test_a_head_that_there_is_not_is_told_with_the_nearest_names() -> None:
    with pytest.raises(PatternError, match="outputs names 'joind', which is no tensor") as error:
        place(NORMAL, DEFAULT, ("joind",))
    assert "joined" in error.value.hint


def test_the_heads_of_yolox_are_found() -> None:
    found = place(float_graph(yolox(), "x.onnx"), DEFAULT)
    last = {name for name, reason in found.plan.floats.items() if reason == "gives the predictions"}
    assert last == {f"Conv_{kind}{number}" for kind in ("reg", "obj", "cls") for number in range(3)}
    assert len(found.layers) == 7
    assert [use.tensor for use in found.uses if not use.of_layer] == [f"down{number}_mul_out" for number in range(3)]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"weights": QuantScheme(bits=6, axis=0, narrow_range=True)}, "bits is 6 with an ONNX file"),
        ({"merge": "block"}, "merge is 'block' with an ONNX file"),
        ({"ignore": ("*",)}, "of 5 layers none is left to quantize"),
    ],
)
def test_what_a_file_cannot_have_is_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        place(NORMAL, replace(DEFAULT, **options))


def test_a_file_that_is_not_float_is_refused(tiny_onnx: Path) -> None:
    with pytest.raises(ModelError, match=r"'q.onnx' has \d+ nodes that quantize"):
        float_graph(onnx.load(tiny_onnx), "q.onnx")
    half = residual_graph()
    weight = half.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), weight.name))
    with pytest.raises(ModelError, match=f"the weight '{weight.name}' of 'h.onnx' is FLOAT16"):
        float_graph(half, "h.onnx")
    g = Graph()
    g.add("Relu", "r", "images")
    with pytest.raises(ModelError, match=r"'n.onnx' has 0 layers with constant weights"):
        float_graph(g.model({"r_out": (1, 3, 32, 32)}), "n.onnx")


def test_a_weight_that_two_layers_share_is_held_once() -> None:
    g = Graph()
    first = g.conv("/head/a/Conv", "images", (3, 3))
    g.add("Identity", "same", "w_/head/a/Conv")
    g.nodes.insert(0, g.nodes.pop())
    g.add("Conv", "/head/b/Conv", first, "same_out")
    found = float_graph(g.model({"/head/b/Conv_out": (1, 3, 32, 32)}), "s.onnx")
    assert [node.name for node in found.graph.node if node.op_type == "Conv"] == ["head.a", "head.a_1"]
    assert [tensor.name for tensor in found.graph.initializer] == ["head.a.weight"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/model.2/m.0/Add", "model.2.m.0"),
        ("/model.10/m/m.0/attn/Add", "model.10.m.0.attn"),
        ("/head/Conv_3", "head"),
        ("Conv_12", "Conv_12"),
        ("", "Conv_7"),
        ("a/b", "a.b"),
    ],
)
def test_a_node_is_named_after_its_module(name: str, path: str) -> None:
    operator = "Add" if name.endswith("Add") else "Conv"
    assert node_path(onnx.NodeProto(name=name, op_type=operator), 7) == path


def test_operators_that_are_too_old_are_raised() -> None:
    found = float_graph(yolox(opset=11), "x.onnx")
    assert found.opset_import[0].version == 13


def test_operators_that_cannot_be_raised_are_told() -> None:
    g = Graph()
    g.add("Foo", "f", g.conv("c", "images", (3, 3)))
    with pytest.raises(ModelError, match=r"the operators of 'f.onnx', of opset 11, cannot be raised to opset 19"):
        float_graph(g.model({"f_out": (1, 3, 32, 32)}, opset=11), "f.onnx", opset=19)
