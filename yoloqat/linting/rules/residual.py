"""The rule about residual inputs that stay float."""

from __future__ import annotations

from yoloqat.linting.finding import Hit, gathered
from yoloqat.linting.graph import Graph
from yoloqat.linting.layers import Layer
from yoloqat.linting.rules.pairs import ACTIVATIONS
from yoloqat.onnx_graph.graph import label
from yoloqat.onnx_graph.operators import QUANTIZE, gated_tensor, moves_values

_GATES = ("Sigmoid", "HardSigmoid")


def _convolution_behind(graph: Graph, tensor: str) -> Layer | None:
    """Return the convolution whose output, behind batch-norm and activation alone, is ``tensor``."""
    node = graph.index.made.get(tensor)
    while node is not None and node.input:
        layer = graph.layer_of(node)
        if layer is not None:
            return layer if layer.convolution else None
        made = graph.index.made
        node = made.get(node.input[0] if node.op_type in ACTIVATIONS else gated_tensor(node, made, _GATES) or "")
    return None


def _is_quantized_later(graph: Graph, tensor: str) -> bool:
    """Return whether a QuantizeLinear reads ``tensor``, directly or behind what only moves values."""
    todo, seen = [tensor], {tensor}
    while todo:
        for node in graph.index.readers.get(todo.pop(), ()):
            if node.op_type == QUANTIZE:
                return True
            if moves_values(node) or node.op_type == "Concat":
                todo.extend(name for name in node.output if name not in seen)
                seen.update(node.output)
    return False


def unquantized_residual(graph: Graph) -> list[Hit]:
    """Find an Add behind a quantized convolution whose result is quantized while both its inputs are float."""
    found = []
    for node in graph.index.nodes:
        if node.op_type != "Add" or len(node.input) != 2 or not node.output:
            continue
        if any(name in graph.dequantized or name in graph.index.constant for name in node.input):
            continue
        layers = [_convolution_behind(graph, name) for name in node.input]
        layer = next((layer for layer in layers if layer is not None and layer.quantized), None)
        if layer is not None and _is_quantized_later(graph, node.output[0]):
            others = (name for name, of in zip(node.input, layers, strict=True) if of is not layer)
            residual = next(others, node.input[0])
            found.append((label(node), f"adds '{residual}' unquantized to '{layer.name}'"))
    return gathered("residual inputs are float", found)
