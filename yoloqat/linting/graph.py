"""All that the rules look at: a graph with its quantizers and weighted layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from yoloqat.config.target import Target, target_of
from yoloqat.linting.layers import Layer, dequantized_tensors, find_layers
from yoloqat.linting.qdq_nodes import QdqNode, find_qdq_nodes
from yoloqat.linting.trt_version import TensorRTVersion
from yoloqat.onnx_graph.file import properties
from yoloqat.onnx_graph.index import Index, index_of


@dataclass(frozen=True)
class Graph:
    """A graph prepared for the rules.

    Attributes:
        index: Who makes and reads which tensor, and what is constant.
        trt_version: The TensorRT that will read the file.
        meant_for: The target that the file itself names; None where it names none.
        qdq_nodes: QuantizeLinear and DequantizeLinear nodes, in order.
        giving: The same by the tensor they give.
        dequantized: Tensors that hold dequantized values.
        layers: Weighted layers, in order.
    """

    index: Index
    trt_version: TensorRTVersion
    meant_for: Target | None
    qdq_nodes: tuple[QdqNode, ...]
    giving: Mapping[str, QdqNode]
    dequantized: frozenset[str]
    layers: tuple[Layer, ...]

    @property
    def zero_points_meant(self) -> bool:
        """Whether the file is for an engine that takes zero-points, which TensorRT does not."""
        return self.meant_for is not None and not self.meant_for.symmetric

    @property
    def activation_quantizers(self) -> tuple[QdqNode, ...]:
        """The QuantizeLinear nodes that read no constant."""
        return tuple(qdq for qdq in self.qdq_nodes if qdq.quantizes and not qdq.weight)

    def layer_of(self, node: onnx.NodeProto) -> Layer | None:
        """Return the weighted layer that ``node`` is."""
        return next((layer for layer in self.layers if layer.node is node), None)

    def dequantizers(self, quantizer: QdqNode) -> tuple[QdqNode, ...]:
        """Return what dequantizes what ``quantizer`` gives."""
        readers = self.index.readers.get(quantizer.result, ())
        return tuple(self.giving[node.output[0]] for node in readers if node.output and node.output[0] in self.giving)

    def readers_behind(self, quantizer: QdqNode) -> tuple[onnx.NodeProto, ...]:
        """Return the nodes that read the values of ``quantizer``, dequantized."""
        return tuple(node for qdq in self.dequantizers(quantizer) for node in self.index.readers.get(qdq.result, ()))


def prepare(model: onnx.ModelProto, trt_version: TensorRTVersion) -> Graph:
    """Prepare a model for the rules."""
    index = index_of(model)
    qdq_nodes = find_qdq_nodes(index)
    giving = {qdq.result: qdq for qdq in qdq_nodes}
    dequantized = dequantized_tensors(index, giving)
    layers = find_layers(index, giving, dequantized)
    return Graph(index, trt_version, target_of(properties(model)), qdq_nodes, giving, dequantized, layers)
