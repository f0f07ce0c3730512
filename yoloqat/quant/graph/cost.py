"""Shapes, parameters and multiply-adds of the layers of a traced graph."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from yoloqat.quant.graph.trace import PARAMETER, Node, Ref, Traced

CONVOLUTIONS = ("aten.conv1d", "aten.conv2d", "aten.conv3d", "aten.convolution")
TRANSPOSED = ("aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d")
LINEAR = ("aten.linear",)
PRODUCTS = ("aten.matmul", "aten.bmm", "aten.mm", "aten.scaled_dot_product_attention")


@dataclass(frozen=True)
class LayerCost:
    """One layer, or one matrix product, of a traced graph.

    Attributes:
        name: Qualified name of the module it ran in; a module that is applied again appears again.
        kind: The operator, e.g. ``"conv2d"``.
        input: Shape of what it reads first.
        output: Shape of what it gives.
        parameters: Numbers in its weight and bias.
        macs: Multiply-adds of one run on the traced shape, without those of the bias.
    """

    name: str
    kind: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    parameters: int
    macs: int


def layer_costs(traced: Traced) -> list[LayerCost]:
    """Return the layers and matrix products of ``traced`` in the order of execution.

    A convolution takes kernel area x input channels per group multiply-adds for each of its outputs, a transposed one
    kernel area x output channels per group for each of its inputs.
    """
    found = []
    for node in traced.nodes:
        base = node.op.rsplit(".", 1)[0]
        macs = _macs(traced, node, base)
        if macs is None or node.shape is None:
            continue
        first = _value(traced, node.args[0])
        weights = [_value(traced, arg) for arg in node.args[1:3]] if base not in PRODUCTS else []
        parameters = sum(prod(weight.shape or ()) for weight in weights if weight is not None)
        shape = () if first is None else first.shape or ()
        found.append(LayerCost(node.module, base.removeprefix("aten."), shape, node.shape, parameters, macs))
    return found


def _value(traced: Traced, argument: object) -> Node | None:
    return traced.nodes[argument.index] if isinstance(argument, Ref) else None


def _shape(traced: Traced, argument: object) -> tuple[int, ...]:
    node = _value(traced, argument)
    return () if node is None else node.shape or ()


def _macs(traced: Traced, node: Node, base: str) -> int | None:
    """Return the multiply-adds of a node, or None where it is no layer."""
    if node.op == PARAMETER or node.shape is None:
        return None
    if base in (*CONVOLUTIONS, *LINEAR):
        return prod(node.shape) * prod(_shape(traced, node.args[1])[1:])
    if base in TRANSPOSED:
        return prod(_shape(traced, node.args[0])) * prod(_shape(traced, node.args[1])[1:])
    if base == "aten.scaled_dot_product_attention":
        query, key, value = (_shape(traced, arg) for arg in node.args[:3])
        return prod(query) * key[-2] + prod(query[:-1]) * key[-2] * value[-1]
    if base in PRODUCTS:
        return prod(node.shape) * _shape(traced, node.args[0])[-1]
    return None
