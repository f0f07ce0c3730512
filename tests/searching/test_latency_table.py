"""The latency table, by figures worked out by hand, and which layers go together."""

from __future__ import annotations

import json

import pytest

from yoloqat.quant.graph import PlacementPlan
from yoloqat.quant.graph.plan import PlannedTensor, ScaleGroup
from yoloqat.quant.graph.trace import INPUT, Node, Ref, Traced
from yoloqat.searching.latency import (
    ESTIMATED,
    LEAST,
    LatencyTable,
    borders_of,
    estimated_table,
    halves,
    make_problem,
    measured_table,
)
from yoloqat.searching.problem import Border, crossed
from yoloqat.searching.tied import Flow, flows, tied_layers, traced_steps

TABLE = LatencyTable("openvino", 5.0, 9.0, {"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 1.5}, 0.5, {"threads": 1})
FLOWS = [Flow("", "a", 4), Flow("a", "b", 2_000_000), Flow("b", "head", 1_000_000)]


def test_a_table_is_taken_back_for_the_same_thing_alone():
    data = json.loads(json.dumps(TABLE.to_dict()))
    assert LatencyTable.from_dict(data, {"threads": 1}) == TABLE
    assert LatencyTable.from_dict(data, {"threads": 2}) is None
    for change in ({"latency_ms": float("nan")}, {"int8_ms": {"a": 1.0}}, {"int8_ms": 3}, {"colour": 1}):
        assert LatencyTable.from_dict(data | change, {"threads": 1}) is None
    assert LatencyTable.from_dict(None, {}) is None


def test_layers_share_the_measured_difference_and_borders_take_the_rest():
    nodes = {"int8": {"a": 1.0, "b": 2.0}, "float": {"a": 2.0, "b": 5.0}}
    latencies = {"int8": 4.0, "float": 12.0, "mixed": 8.0}  # 8 ms more, of which the nodes tell 4
    table = measured_table("openvino", nodes, latencies, {"mixed": (["a"], 4.0)}, {})
    assert (table.int8_ms, table.float_ms) == ({"a": 2.0, "b": 4.0}, {"a": 4.0, "b": 10.0})
    assert table.border_ms == pytest.approx((8.0 - 4.0 - 2.0) / 4.0)
    assert measured_table("openvino", nodes, latencies | {"mixed": 5.0}, {"mixed": (["a"], 4.0)}, {}).border_ms == 0.0


def test_a_layer_that_seems_faster_in_float_still_costs_a_little():
    assert TABLE.extra_ms("a") == 2.0
    assert TABLE.extra_ms("b") == pytest.approx(LEAST * 2.0)


def test_a_problem_joins_noises_latencies_and_borders():
    problem = make_problem([("a",), ("b",)], {"a": 0.6, "b": 0.3}, 0.1, TABLE, FLOWS)
    assert problem.borders == (Border(None, 0, 2e-6), Border(0, 1, 1.0), Border(1, None, 0.5))
    assert problem.float_set({0}).latency_ms == pytest.approx(5.0 + 2.0 + 1.0 - 2e-6)
    assert problem.float_set({0, 1}).d == pytest.approx(0.1 * 0.1**0.5)


def test_a_tensor_has_one_border_with_all_that_reads_it_in_one_scale():
    passing = [Flow("a", "b", 10), Flow("a", "c", 10), Flow("a", "d", 10)]
    found = borders_of([("a",), ("b", "c"), ("d",)], passing, 1e6)
    assert found == (Border(0, 1, 10.0), Border(0, 2, 10.0))
    assert crossed(found, {1}) == 10.0
    assert crossed(found, {0, 1}) == 10.0
    assert crossed(found, ()) == 0.0


def test_halves_divide_a_chain_at_every_border():
    chain = [Flow(str(i), str(i + 1), 5) for i in range(5)]
    first, second = halves([(str(i),) for i in range(6)], chain)
    assert sorted(map(sorted, (first, second))) == [[0, 2, 4], [1, 3, 5]]


def test_an_estimate_prefers_int8_and_tells_that_it_is_one():
    table = estimated_table({"a": (120_000_000, 10_000_000)}, (40_000_000, 0), {})
    assert (table.source, table.measured) == (ESTIMATED, False)
    assert table.int8_ms["a"] == pytest.approx(1.0 + 1.0)
    assert table.float_ms["a"] == pytest.approx(3.0 + 4.0)
    assert (table.latency_ms, table.float_latency_ms) == (pytest.approx(3.0), pytest.approx(8.0))


def test_layers_of_one_scale_go_together_also_over_a_third():
    def scale(*layers):
        return ScaleGroup((PlannedTensor(layers[0], tuple(f"{name}._input_quantizer" for name in layers)),))

    plan = PlacementPlan((scale("a", "c"), scale("c", "d"), scale("b"), scale("block")))
    assert tied_layers(plan, ("a", "b", "c", "d", "e")) == [("a", "c", "d"), ("b",), ("e",)]


def test_flows_lead_from_layer_to_layer_through_everything_else():
    def node(index, op, module, *reads, shape=(1, 4, 8)):
        return Node(index, str(index), op, module, "", tuple(Ref(read) for read in reads), shape=shape)

    nodes = (
        node(0, INPUT, "", shape=(1, 3, 8)),
        node(1, "aten.conv2d.default", "a", 0),
        node(2, "aten.silu.default", "", 1),
        node(3, "aten.conv2d.default", "b", 2, shape=(1, 2, 8)),
        node(4, "aten.cat.default", "", 2, 3, shape=(1, 6, 8)),
        node(5, "aten.conv2d.default", "head", 4),
        node(6, "aten.linear.default", "other", 5),
    )
    found = flows(traced_steps(Traced(nodes, (6,), {})), {"a", "b"})
    assert found == [Flow("", "a", 24), Flow("a", "b", 32), Flow("a", "head", 32), Flow("b", "head", 16)]
