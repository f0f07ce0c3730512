"""The graph as the fusion model sees it: operators that read tensors in integers or in float, without Q, DQ and casts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from yoloqat.errors import ModelError
from yoloqat.linting.fusion.model import FLOAT, HALF, INT8
from yoloqat.linting.graph import Graph
from yoloqat.linting.qdq_nodes import QdqNode
from yoloqat.onnx_graph.graph import label
from yoloqat.onnx_graph.operators import LAYER_OPS, QUANTIZE, data_inputs, moves_values

FREE = frozenset({"Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
"""Operators that change no value and no place in memory."""
SLICES = frozenset({"Slice", "Split"})
POINTWISE = frozenset(
    {
        "Abs",
        "Add",
        "BatchNormalization",
        "Clip",
        "Div",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Log",
        "Max",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "PRelu",
        "Pow",
        "Reciprocal",
        "Relu",
        "Sigmoid",
        "Softplus",
        "Sqrt",
        "Sub",
        "Tanh",
        "Where",
    }
)
POOLS = frozenset({"MaxPool", "GlobalMaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Upsample", "ReduceMean"})
_SIZES = {FLOAT: 4, HALF: 2, INT8: 1}
_TYPES = {TensorProto.FLOAT: FLOAT, TensorProto.FLOAT16: HALF, TensorProto.INT8: INT8, TensorProto.UINT8: INT8}


@dataclass(frozen=True)
class Read:
    """What an operator reads of a tensor.

    Attributes:
        tensor: The tensor, by the name of its float values.
        scale: The scale with which it is quantized on the way; None where it is read in float.
    """

    tensor: str
    scale: bytes | None


@dataclass(frozen=True)
class Op:
    """An operator of the graph that is neither a Q, nor a DQ, nor a constant.

    Attributes:
        name: Of its node, or of the Q that requantizes.
        type: ONNX operator, or ``"QuantizeLinear"`` for what requantizes a dequantized tensor.
        reads: Its activations, in order, without constants.
        outputs: What it makes.
        node: The node.
        quantized: Whether it is a layer whose weight, or second activation, is dequantized.
        depthwise: Whether it is a depthwise convolution.
        weights: Elements of its weight.
        tail: Whether neither a layer nor a Q comes behind it.
    """

    name: str
    type: str
    reads: tuple[Read, ...]
    outputs: tuple[str, ...]
    node: onnx.NodeProto
    quantized: bool
    depthwise: bool
    weights: int
    tail: bool

    @property
    def layer(self) -> bool:
        """Whether it multiplies by weights, or two activations."""
        return self.type in LAYER_OPS

    @property
    def product(self) -> bool:
        """Whether it multiplies two activations."""
        return self.layer and not self.weights

    @property
    def moves(self) -> bool:
        """Whether integers pass through it unchanged."""
        return moves_values(self.node) or self.type == "Concat"


@dataclass(frozen=True)
class Net:
    """Operators and tensors.

    Attributes:
        ops: The operators, in order.
        shapes: Shape of each tensor; open sides are 0.
        kinds: Type of each float tensor, ``"f16"`` or ``"f32"``; of others the ONNX element type's size in bytes as text.
        inputs: Names of the images.
        outputs: Tensors that leave the graph.
    """

    ops: tuple[Op, ...]
    shapes: Mapping[str, tuple[int, ...]]
    kinds: Mapping[str, str]
    inputs: frozenset[str]
    outputs: frozenset[str]

    def elements(self, tensor: str) -> int:
        """Return how many values a tensor has; an open side counts as one."""
        return math.prod(side or 1 for side in self.shapes.get(tensor, (1,)))

    def channels(self, tensor: str) -> int:
        """Return a tensor's second side, 0 where it is open or not there."""
        shape = self.shapes.get(tensor, ())
        return shape[1] if len(shape) > 1 else 0

    def size(self, tensor: str, precision: str) -> int:
        """Return the bytes of a tensor stored in ``precision``."""
        return self.elements(tensor) * _SIZES.get(precision, 8)


def _values(model: onnx.ModelProto) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"shapes cannot be inferred ({error!s:.200})",
            expected="a valid graph",
            hint="lint it without `explain` and mend what is found first",
        ) from error
    shapes, kinds = {}, {}
    for value in (*graph.value_info, *graph.output, *graph.input):
        tensor = value.type.tensor_type
        shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
        kinds[value.name] = _TYPES.get(tensor.elem_type, "other")
    return shapes, kinds


def _key(qdq: QdqNode) -> bytes:
    return b"?" + qdq.name.encode() if qdq.scale is None else qdq.scale.astype("float32").tobytes()


class _Namer:
    """Follows each tensor back through casts, Q and DQ to the values that it stands for."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.known: dict[str, Read] = {}

    def read(self, tensor: str) -> Read:
        """Return the float values that ``tensor`` stands for, and the scale that they are quantized with on the way."""
        if tensor not in self.known:
            self.known[tensor] = self._follow(tensor)
        return self.known[tensor]

    def _follow(self, tensor: str) -> Read:
        made = self.graph.index.made.get(tensor)
        if made is None or not made.input:
            return Read(tensor, None)
        if made.op_type in ("Cast", "Identity"):
            return self.read(made.input[0])
        if made.op_type == "Concat" or moves_values(made):
            moved = [name for name in data_inputs(made) if name not in self.graph.index.constant]
            scales = {self.read(name).scale for name in moved}
            return Read(tensor, scales.pop() if len(scales) == 1 else None)
        qdq = self.graph.giving.get(tensor)
        if qdq is None or qdq.quantizes:
            return Read(tensor, None)
        quantizer = self.graph.giving.get(qdq.data)
        if quantizer is None or not quantizer.quantizes:
            return Read(tensor, _key(qdq))  # the integers come from outside
        before = self.read(quantizer.data)
        if before.scale in (None, _key(quantizer)):
            return Read(before.tensor, _key(quantizer))
        return Read(quantizer.result, _key(quantizer))  # requantized: a tensor of its own


def _tail(nodes: tuple[onnx.NodeProto, ...]) -> set[int]:
    """Return the ids of the nodes behind which neither a layer nor a Q comes."""
    reaching: set[str] = set()
    found = set()
    for node in reversed(nodes):
        if node.op_type in LAYER_OPS or node.op_type == QUANTIZE or any(name in reaching for name in node.output):
            reaching.update(node.input)
        else:
            found.add(id(node))
    return found


def net_of(model: onnx.ModelProto, graph: Graph) -> Net:
    """Return the operators of a graph with what they read.

    Args:
        model: The file.
        graph: The same, prepared for the rules.

    Raises:
        ModelError: The shapes of its tensors cannot be inferred.
    """
    index, namer = graph.index, _Namer(graph)
    shapes, kinds = _values(model)
    layers = {id(layer.node): layer for layer in graph.layers}
    behind, ops = _tail(index.nodes), []
    for node in index.nodes:
        qdq = graph.giving.get(node.output[0]) if node.output else None
        constant = all(name in index.constant for name in node.output if name)
        if constant or node.op_type in ("Cast", "Identity", "Constant"):
            continue
        if qdq is not None:
            ops += _requantizer(qdq, namer)
            shapes.setdefault(qdq.result, shapes.get(qdq.data, ()))
            continue
        layer = layers.get(id(node))
        reads = [name for name in node.input if name and name not in index.constant]
        weighted = layer is not None and layer.weight_constant
        shape = layer.shape if layer is not None and weighted else None
        ops.append(
            Op(
                name=label(node),
                type=node.op_type,
                reads=tuple(namer.read(name) for name in reads),
                outputs=tuple(name for name in node.output if name),
                node=node,
                quantized=layer is not None and layer.weight_quantized,
                depthwise=layer is not None and layer.depthwise,
                weights=math.prod(shape) if shape else 0,
                tail=id(node) in behind,
            )
        )
    outputs = frozenset(namer.read(name).tensor for name in index.outputs)
    return Net(tuple(ops), shapes, kinds, index.inputs, outputs)


def _requantizer(qdq: QdqNode, namer: _Namer) -> list[Op]:
    """Return what quantizes a dequantized tensor once more, with another scale."""
    before = namer.read(qdq.data) if qdq.quantizes and not qdq.weight else None
    if before is None or before.scale in (None, _key(qdq)):
        return []
    return [
        Op(
            qdq.name,
            QUANTIZE,
            (before,),
            (qdq.result,),
            qdq.node,
            quantized=False,
            depthwise=False,
            weights=0,
            tail=False,
        )
    ]
