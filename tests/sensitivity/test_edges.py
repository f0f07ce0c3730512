from __future__ import annotations

import pytest
import torch
from torch import nn

from yoloqat.config import QuantConfig
from yoloqat.errors import CalibrationError, ModelError
from yoloqat.quant import quantized_layers, share_quantizers, state_digest, swap_layers, swappable_layers
from yoloqat.quant.graph import Executor, trace
from yoloqat.sensitivity.edges import OFF, Switch, active_edges, placeholders, switched, switched_quantizer


class Siblings(nn.Module):
    """Two layers that read one tensor, and one that is run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.twice = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.twice(self.twice(self.a(x) + self.b(x)))


@pytest.fixture
def siblings() -> nn.Module:
    torch.manual_seed(0)
    module = Siblings().eval()
    swap_layers(module, swappable_layers(module), QuantConfig())
    share_quantizers(module, {"b._input_quantizer": "a._input_quantizer"})
    for _, layer in quantized_layers(module):
        layer._input_quantizer.amax = 1.0
        layer.calibrate_weight()
    return module


def test_every_use_of_a_shared_quantizer_is_an_edge(siblings):
    edges = {edge.name: edge for edge in active_edges(siblings)}
    assert set(edges) == {f"{layer}._{kind}_quantizer" for layer in ("a", "b", "twice") for kind in ("input", "weight")}
    assert edges["b._input_quantizer"].quantizer is edges["a._input_quantizer"].quantizer
    assert edges["b._input_quantizer"].quantizer_name == "a._input_quantizer"
    assert edges["b._input_quantizer"].holder == "b"
    assert [name for name, edge in edges.items() if edge.is_weight] == [
        f"{x}._weight_quantizer" for x in ("a", "b", "twice")
    ]


def test_each_node_belongs_to_the_edge_of_the_layer_that_reads_it(siblings):
    edges = active_edges(siblings)
    traced = trace(siblings, torch.rand(1, 3, 4, 4))
    found = placeholders(edges, traced, Executor(siblings, traced))
    assert [len(found[name]) for name in ("a._input_quantizer", "b._input_quantizer")] == [1, 1]
    assert len(found["twice._input_quantizer"]) == 2
    readers = traced.readers()
    for layer in ("a", "b", "twice"):
        for node in found[f"{layer}._input_quantizer"]:
            assert {traced.nodes[reader].module for reader in readers[node]} == {layer}


def test_quantizers_that_are_off_are_no_edges(siblings):
    siblings.a._weight_quantizer.disable()
    siblings.b._weight_quantizer.disable_quant()
    assert sum(edge.is_weight for edge in active_edges(siblings)) == 1


def test_a_quantizer_without_a_range_is_named(siblings):
    siblings.twice._input_quantizer.reset_amax()
    with pytest.raises(CalibrationError, match=r"quantizer 'twice._input_quantizer' has no range"):
        active_edges(siblings)


def test_a_float_model_has_nothing_to_scan():
    with pytest.raises(ModelError, match="the model has 0 quantizers that are switched on"):
        active_edges(nn.Sequential(nn.Conv2d(1, 1, 1)))


def test_a_node_that_no_module_holds_is_told(siblings):
    edges = [edge for edge in active_edges(siblings) if edge.holder != "b"]
    traced = trace(siblings, torch.rand(1, 3, 4, 4))
    with pytest.raises(ModelError, match=r"quantizer 'b\._weight_quantizer' is used in 'b', which does not hold it"):
        placeholders(edges, traced, Executor(siblings, traced))


def test_a_switched_quantizer_leaves_the_given_one_alone(make_scanner):
    quantizer = make_scanner().edges[0].quantizer
    x = torch.linspace(-1, 1, 101)
    before = quantizer(x)
    assert torch.equal(switched_quantizer(quantizer, OFF)(x), x)
    narrow = switched_quantizer(quantizer, Switch(3))(x)
    assert len(narrow.unique()) <= 8 < len(before.unique())
    assert torch.equal(quantizer(x), before)


def test_switching_ends_with_its_context_and_spares_other_users(make_scanner):
    scanner = make_scanner()
    edges = {edge.name: edge for edge in scanner.edges}
    module = scanner.detector.module
    shared = [edge for edge in scanner.edges if sum(other.quantizer is edge.quantizer for other in scanner.edges) > 1]
    before = state_digest(module)
    for edge in (shared[0], shared[-1]):  # the owner and one that holds a reference
        with switched(module, edges, {edge.name: OFF}):
            holder = module.get_submodule(edge.holder)
            assert getattr(holder, edge.attributes[0])._disabled
            for other in shared:
                if other.name != edge.name:
                    assert not getattr(module.get_submodule(other.holder), other.attributes[0])._disabled
            assert state_digest(module) != before
        assert state_digest(module) == before
        assert getattr(holder, edge.attributes[0]) is edge.quantizer


def test_the_hash_sees_ranges_schemes_and_switches(make_scanner):
    module, edges = make_scanner().detector.module, make_scanner().edges
    quantizer = edges[3].quantizer
    hashes = {state_digest(module)}
    amax = quantizer.amax
    quantizer.amax = amax * 1.001
    hashes.add(state_digest(module))
    quantizer.amax = amax
    quantizer.disable_quant()
    hashes.add(state_digest(module))
    quantizer.enable_quant()
    quantizer.scheme = switched_quantizer(quantizer, Switch(7)).scheme
    hashes.add(state_digest(module))
    assert len(hashes) == 4
