from __future__ import annotations

import pytest
from onnx import helper

from yoloqat.onnx_graph.operators import (
    data_inputs,
    gated_tensor,
    keeps_lower_bound,
    keeps_scale,
    moves_values,
    opset_of,
    propagates_quantizers,
)

MEANINGS = (moves_values, keeps_scale, keeps_lower_bound, propagates_quantizers)


def node(kind: str, **attributes: object):
    return helper.make_node(kind, ["a", "b"], ["y"], **attributes)


@pytest.mark.parametrize(
    ("made", "moves", "scale", "bound", "propagates"),
    [
        (node("MaxPool"), True, True, True, True),
        (node("Split"), True, True, True, True),
        (node("Slice"), True, True, True, False),
        (node("Identity"), True, False, True, False),
        (node("Cast"), True, False, False, False),  # to an integer it may wrap
        (node("Concat"), False, False, False, True),  # of several inputs
        (node("Resize"), True, True, True, True),
        (node("Resize", mode="linear"), False, False, True, False),
        (node("Resize", mode="cubic"), False, False, False, False),
        (node("Upsample", mode="nearest"), True, False, False, False),
        (node("Upsample", mode="linear"), False, False, False, False),
        (node("Conv"), False, False, False, False),
    ],
    ids=lambda value: value.op_type if hasattr(value, "op_type") else None,
)
def test_what_survives_an_operator(made, moves, scale, bound, propagates):
    assert [meaning(made) for meaning in MEANINGS] == [moves, scale, bound, propagates]


def test_the_values_that_an_operator_passes_on():
    assert data_inputs(node("Concat")) == ["a", "b"]
    assert data_inputs(node("Split")) == ["a"]


def test_the_version_of_the_standard_operators():
    graph = helper.make_graph([], "g", [], [])
    imports = [helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("ai.onnx", 19)]
    assert opset_of(helper.make_model(graph, opset_imports=imports)) == 19
    assert opset_of(helper.make_model(graph, opset_imports=imports[:1])) is None


def test_a_silu_is_a_product_with_its_own_gate():
    def gated(gate: str, *inputs: str) -> str | None:
        made = {"g": helper.make_node(gate, ["x"], ["g"])}
        return gated_tensor(helper.make_node("Mul", list(inputs), ["y"]), made, ("Sigmoid", "HardSigmoid"))

    assert gated("Sigmoid", "x", "g") == gated("HardSigmoid", "g", "x") == "x"
    assert gated("Sigmoid", "z", "g") is None
    assert gated("Relu", "x", "g") is None
    sigmoid = {"g": helper.make_node("Sigmoid", ["x"], ["g"])}
    assert gated_tensor(helper.make_node("Add", ["x", "g"], ["y"]), sigmoid) is None
