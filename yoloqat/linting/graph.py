"""All that the rules look at: a graph with its quantizers and weighted layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from yoloqat.linting.layers import Layer, dequantized_tensors, find_layers
from yoloqat.linting.sites import Site, find_sites
from yoloqat.linting.target import Target
from yoloqat.onnx_graph.index import Index, index_of


@dataclass(frozen=True)
class Graph:
    """A graph prepared for the rules.

    Attributes:
        index: Who makes and reads which tensor, and what is constant.
        target: What will read the file.
        sites: QuantizeLinear and DequantizeLinear nodes, in order.
        giving: The same by the tensor they give.
        dequantized: Tensors that hold dequantized values.
        layers: Weighted layers, in order.
    """

    index: Index
    target: Target
    sites: tuple[Site, ...]
    giving: Mapping[str, Site]
    dequantized: frozenset[str]
    layers: tuple[Layer, ...]

    @property
    def activation_quantizers(self) -> tuple[Site, ...]:
        """The QuantizeLinear nodes that read no constant."""
        return tuple(site for site in self.sites if site.quantizes and not site.weight)

    def layer_of(self, node: onnx.NodeProto) -> Layer | None:
        """Return the weighted layer that ``node`` is."""
        return next((layer for layer in self.layers if layer.node is node), None)

    def dequantizers(self, quantizer: Site) -> tuple[Site, ...]:
        """Return what dequantizes the codes that ``quantizer`` gives."""
        readers = self.index.readers.get(quantizer.result, ())
        return tuple(self.giving[node.output[0]] for node in readers if node.output and node.output[0] in self.giving)

    def readers_behind(self, quantizer: Site) -> tuple[onnx.NodeProto, ...]:
        """Return the nodes that read the values of ``quantizer``, dequantized."""
        return tuple(node for site in self.dequantizers(quantizer) for node in self.index.readers.get(site.result, ()))


def prepare(model: onnx.ModelProto, target: Target) -> Graph:
    """Prepare a model for the rules."""
    index = index_of(model)
    sites = find_sites(index)
    giving = {site.result: site for site in sites}
    dequantized = dequantized_tensors(index, giving)
    return Graph(index, target, sites, giving, dequantized, find_layers(index, giving, dequantized))
