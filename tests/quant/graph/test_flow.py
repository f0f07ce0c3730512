"""Which operators carry a scale, and how far."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloqat.quant.graph import Node, Ref, Traced
from yoloqat.quant.graph.flow import UnionFind, carried, operator_name, scale_groups


def node(index: int, op: str, *args: Any, module: str = "model.0", target: str | None = None, **kwargs: Any) -> Node:
    return Node(index, f"n{index}", op, module, "Net", args, kwargs, (1, 4, 4, 4), None, target)


def location(index: int, read: int, name: str) -> Node:
    return node(index, "yoloqat.quantizer.default", Ref(read), name, target=name)


@pytest.mark.parametrize(
    ("op", "args", "kwargs", "wanted"),
    [
        ("aten.cat.default", ([Ref(1), Ref(4)], 1), {}, (1, 4)),
        ("aten.stack.default", ([Ref(1), Ref(4)],), {}, (1, 4)),
        ("aten.max_pool2d.default", (Ref(3), [5, 5]), {}, (3,)),
        ("aten.slice.Tensor", (Ref(3), 1, 0, 8), {}, (3,)),
        ("aten.split.Tensor", (Ref(3), 8, 1), {}, (3,)),
        ("aten.split_with_sizes.default", (Ref(3), [8, 8], 1), {}, (3,)),
        ("getitem", (Ref(3), 0), {}, (3,)),
        ("aten.upsample_nearest2d.vec", (Ref(3), None, [2.0, 2.0]), {}, (3,)),
        ("aten.view.default", (Ref(3), [1, -1]), {}, (3,)),
        ("aten.permute.default", (Ref(3), [0, 2, 1]), {}, (3,)),
        ("aten.transpose.int", (Ref(3), 1, 2), {}, (3,)),
        ("aten._unsafe_view.default", (Ref(3), [1, -1]), {}, (3,)),
        ("aten.clone.default", (Ref(3),), {}, (3,)),
        ("aten.pad.default", (Ref(3), [0, 1, 0, 1]), {}, (3,)),
        ("aten.pad.default", (Ref(3), [0, 1, 0, 1], "constant", 0.0), {}, (3,)),
        ("aten.constant_pad_nd.default", (Ref(3), [0, 1], 0.0), {}, (3,)),
        ("aten.pad.default", (Ref(3), [0, 1, 0, 1], "constant", 1.0), {}, ()),
        ("aten.pad.default", (Ref(3), [0, 1, 0, 1], "reflect"), {}, ()),
        ("aten.constant_pad_nd.default", (Ref(3), [0, 1], float("-inf")), {}, ()),
        ("aten.avg_pool2d.default", (Ref(3), [2, 2]), {}, ()),
        ("aten.upsample_bilinear2d.vec", (Ref(3), None, False, [2.0, 2.0]), {}, ()),
        ("aten.add.Tensor", (Ref(1), Ref(3)), {}, ()),
        ("aten.conv2d.default", (Ref(3), Ref(1)), {}, ()),
        ("aten.silu.default", (Ref(3),), {}, ()),
        ("input", (), {}, ()),
    ],
)
def test_only_what_moves_values_carries_a_scale(op, args, kwargs, wanted):
    assert carried(node(5, op, *args, **kwargs)) == wanted


def test_a_quantizer_carries_nothing():
    assert carried(location(5, 3, "a._input_quantizer")) == ()


def test_operators_are_known_without_library_and_overload():
    assert operator_name(node(0, "aten.conv2d.default")) == "conv2d"
    assert operator_name(node(0, "getitem", Ref(0), 1)) == "getitem"


def neck() -> Traced:
    """Two blocks whose outputs a third concatenates; inside the first a chunk and its concat."""
    nodes = [
        node(0, "input", module=""),
        node(1, "aten.silu.default", Ref(0), module="model.1.cv1.act"),
        node(2, "aten.split.Tensor", Ref(1), 4, 1, module="model.1"),
        node(3, "getitem", Ref(2), 1, module="model.1"),
        location(4, 3, "model.1.m._input_quantizer"),
        node(5, "aten.cat.default", [Ref(3), Ref(4)], 1, module="model.1"),
        location(6, 5, "model.1.cv2._input_quantizer"),
        node(7, "aten.silu.default", Ref(6), module="model.1.cv2.act"),
        location(8, 7, "model.2._input_quantizer"),
        node(9, "aten.silu.default", Ref(8), module="model.2.act"),
        node(10, "aten.cat.default", [Ref(7), Ref(9)], 1, module="model.3"),
        location(11, 10, "model.4._input_quantizer"),
    ]
    return Traced(tuple(nodes), (11,), {})


def sets(groups: UnionFind, *members: int) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    for member in members:
        found.setdefault(groups.find(member), []).append(member)
    return list(found.values())


@pytest.mark.parametrize(
    ("sharing", "wanted"),
    [("graph", [[3, 5], [7, 10]]), ("block", [[3, 5], [7], [10]]), ("tensor", [[3], [5], [7], [10]])],
)
def test_a_scale_reaches_as_far_as_it_is_asked(sharing, wanted):
    assert sets(scale_groups(neck(), sharing=sharing), 3, 5, 7, 10) == wanted


def test_a_tensor_that_is_kept_apart_leaves_its_neighbours_together_no_longer():
    assert sets(scale_groups(neck(), unshared={10}), 3, 5, 7, 9, 10) == [[3, 5], [7], [9], [10]]


def test_a_layer_that_runs_twice_joins_its_tensors():
    nodes = [
        node(0, "input"),
        location(1, 0, "head._input_quantizer"),
        node(2, "aten.silu.default", Ref(1)),
        location(3, 2, "head._input_quantizer"),
    ]
    assert sets(scale_groups(Traced(tuple(nodes), (3,), {}), sharing="tensor"), 0, 2) == [[0, 2]]


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40))
def test_union_find_agrees_with_sets_that_are_joined_one_by_one(pairs):
    found = UnionFind(20)
    wanted = [{member} for member in range(20)]
    for first, second in pairs:
        found.union(first, second)
        both = wanted[first] | wanted[second]
        for member in both:
            wanted[member] = both
    assert [found.find(member) for member in range(20)] == [min(group) for group in wanted]
