"""A float ONNX graph at the shape of one image: what its layers cost, as it is told of the graph of a torch model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import onnx

from yoloqat.onnx_graph.file import inputs_of
from yoloqat.onnx_graph.index import Index, index_of
from yoloqat.onnx_graph.macs import convolution_multiply_adds, tensor_shapes, with_input_shape
from yoloqat.onnx_graph.operators import CONVOLUTIONS, LAYER_OPS
from yoloqat.onnx_quant.float_graph import layer_nodes
from yoloqat.quant.graph.cost import LayerCost


@dataclass(frozen=True)
class SizedGraph:
    """A graph in normal form with the shapes that its tensors have for one image.

    Attributes:
        index: The graph.
        layers: Name of each layer's node to the layer.
        shapes: By the name of a tensor; empty where unknown.
    """

    index: Index
    layers: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, model: onnx.ModelProto, channels: int, size: tuple[int, int]) -> SizedGraph:
        """Return a graph at a size.

        Args:
            model: In normal form.
            channels: Of the images.
            size: (height, width) in pixels.
        """
        index = index_of(model)
        fed = inputs_of(model)[0].name
        return cls(index, layer_nodes(index), tensor_shapes(with_input_shape(model, fed, (1, channels, *size))))

    def costs(self) -> list[LayerCost]:
        """Return the layers and matrix products in the order of execution; a layer that runs twice appears twice."""
        return [self._cost(node) for node in self.index.nodes if node.op_type in LAYER_OPS]

    def _cost(self, node: onnx.NodeProto) -> LayerCost:
        first, second, written = (self.shapes.get(name, ()) for name in (*node.input[:2], node.output[0]))
        if node.op_type in CONVOLUTIONS:
            macs = convolution_multiply_adds(node, self.shapes)
        elif node.op_type == "Gemm":
            macs = prod(written) * prod(second) // written[-1] if written and written[-1] else 0
        else:
            macs = prod(written) * first[-1] if written and first else 0
        held = [self.index.tensors[name].dims for name in node.input[1:3] if name in self.index.tensors]
        name = self.layers.get(node.name, node.name)
        return LayerCost(name, node.op_type, first, written, sum(prod(dims) for dims in held), macs)
