"""Whatever a file lacks, the lint says something about it instead of falling over."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq_graphs import detector

from yoloqat.errors import ModelError
from yoloqat.linting import lint_model
from yoloqat.linting.fusion import predict_model

NODES = len(detector().graph.node)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, NODES - 1), st.sampled_from(["node", "input", "output", "attribute", "rename"])),
        max_size=6,
    )
)
def test_graphs_with_pieces_missing_are_linted(cuts: list[tuple[int, str]]) -> None:
    model = detector()
    for index, what in cuts:
        node = model.graph.node[index % len(model.graph.node)]
        if what == "node":
            model.graph.node.remove(node)
        elif what == "rename" and node.input:
            node.input[0] = node.output[0] if node.output else "loop"
        elif what in ("input", "output", "attribute") and getattr(node, what):
            del getattr(node, what)[-1]
    for finding in lint_model(model):
        assert finding.message
        assert finding.hint


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_graphs_without_some_initializers_are_linted(data: st.DataObject) -> None:
    model = detector()
    count = len(model.graph.initializer)
    for index in sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=4)), reverse=True):
        del model.graph.initializer[index]
    assert "malformed-graph" in [finding.rule for finding in lint_model(model)]


@pytest.mark.parametrize("what", ["input", "output"])
def test_a_node_that_lacks_a_piece_is_linted_and_its_prediction_ends_in_one_line(what: str) -> None:
    refused = []
    for index in range(len(detector().graph.node)):
        model = detector()
        del getattr(model.graph.node[index], what)[:]
        assert isinstance(lint_model(model), list | tuple)
        try:
            predict_model(model)
        except ModelError as error:
            refused.append(str(error))
    assert what == "output" or any(
        re.match(r"its graph of \d+ operators cannot be followed \(\w+: .*\); expected a valid graph", x)
        for x in refused
    )
