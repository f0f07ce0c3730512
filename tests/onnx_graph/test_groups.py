from __future__ import annotations

from yoloqat.onnx_graph.groups import Groups


def test_names_that_are_joined_have_one_root():
    groups = Groups()
    groups.join("a", "b", "c")
    groups.join("d", "e")
    assert groups.root("c") == groups.root("a") == "a"
    assert groups.root("e") == "d"
    groups.join("e", "b")
    assert {groups.root(name) for name in "abcde"} == {"d"}
    assert groups.root("alone") == "alone"
