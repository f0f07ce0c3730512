from __future__ import annotations

import pytest

from yoloqat.errors import ConfigError, PatternError
from yoloqat.sensitivity.items import make_items
from yoloqat.sensitivity.settings import ScanConfig


@pytest.fixture
def edges(make_scanner):
    return make_scanner().edges


@pytest.mark.parametrize("granularity", ["layer", "quantizer", "block"])
def test_every_edge_is_in_one_item(edges, granularity):
    items = make_items(edges, ScanConfig(granularity=granularity))
    assert sorted(name for item in items for name in item.edges) == sorted(edge.name for edge in edges)
    assert len({item.name for item in items}) == len(items)


def test_a_layer_is_its_input_and_weight_and_leaves_siblings_alone(edges):
    items = {item.name: item for item in make_items(edges, ScanConfig())}
    for name in ("model.9.cv2.0.0.conv", "model.9.cv3.0.0.conv"):  # both read the same tensor
        assert items[name].edges == (f"{name}._input_quantizer", f"{name}._weight_quantizer")
        assert items[name].layers == (name,)
    assert items["model.2.m.0 (residual)"].edges == ("model.2.m.0._residual_quantizer",)
    assert items["model.2.m.0 (residual)"].layers == ()


def test_a_quantizer_takes_all_its_users_along(edges):
    items = {item.name: item for item in make_items(edges, ScanConfig(granularity="quantizer"))}
    shared = [item for item in items.values() if len(item.edges) > 1]
    assert shared
    users = {id(edge.quantizer): [] for edge in edges}
    for edge in edges:
        users[id(edge.quantizer)].append(edge.name)
    assert sorted(map(sorted, users.values())) == sorted(sorted(item.edges) for item in items.values())


def test_blocks_are_those_at_the_top(edges):
    names = [item.name for item in make_items(edges, ScanConfig(granularity="block"))]
    assert names == [f"model.{number}" for number in (0, 1, 2, 3, 4, 5, 8, 9)]


def test_groups_take_patterns(edges):
    config = ScanConfig(granularity="group", groups=("stem=model.0.conv,model.1", "head = model.9.*"))
    stem, head = make_items(edges, config)
    assert (stem.name, stem.layers) == ("stem", ("model.0.conv", "model.1.conv"))
    assert head.name == "head"
    assert all(layer.startswith("model.9.") for layer in head.layers)


@pytest.mark.parametrize("text", ["stem", "=model.0", "stem=", "stem= , "])
def test_malformed_groups_are_named(edges, text):
    with pytest.raises(ConfigError, match=f"group is '{text}'; expected NAME=PATTERN,PATTERN"):
        make_items(edges, ScanConfig(granularity="group", groups=(text,)))


def test_a_group_named_twice_and_a_pattern_without_a_match_are_told(edges):
    with pytest.raises(ConfigError, match="group 'a' is named twice"):
        make_items(edges, ScanConfig(granularity="group", groups=("a=model.0", "a=model.1")))
    with pytest.raises(PatternError, match=r"'model\.77' matches no layer"):
        make_items(edges, ScanConfig(granularity="group", groups=("a=model.77",)))
