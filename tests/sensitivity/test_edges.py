from __future__ import annotations

import pytest
import torch
from torch import nn

from yoloqat.config import QuantConfig
from yoloqat.errors import CalibrationError, ModelError
from yoloqat.quant import quantized_layers, share_quantizers, swap_layers, swappable_layers
from yoloqat.quant.graph import Executor, trace
from yoloqat.sensitivity.edges import active_edges, markers


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
    found = markers(edges, traced, Executor(siblings, traced))
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
        markers(edges, traced, Executor(siblings, traced))
