"""Where 8-bit convolutions can overflow on processors without VNNI.

Such processors multiply with `vpmaddubsw`, which adds the products of two neighbouring input channels in 16 bits and
saturates beyond -32768 to 32767; Intel's oneDNN, by which OpenVINO convolves, documents it under "int8 computations".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from yoloqat.engines.openvino_import import import_openvino
from yoloqat.onnx_graph.graph import attribute, initializers, producers
from yoloqat.onnx_graph.operators import CONVOLUTIONS, DEQUANTIZE, QUANTIZERS

_LOW, _HIGH = -32768, 32767
_SIGNED_HIGH = 127


@dataclass(frozen=True)
class Overflow:
    """How many sums of one convolution can overflow.

    Attributes:
        pairs: Pairs of neighbouring weights whose two products can leave 16 bits at the highest integers.
        total: All pairs of the layer.
    """

    pairs: int
    total: int

    @property
    def share(self) -> float:
        """Share of the pairs that can overflow."""
        return self.pairs / self.total if self.total else 0.0


def overflowing_pairs(weight: NDArray[np.integer], *, highest: int) -> Overflow:
    """Count the pairs of weights that can overflow 16 bits with activations from 0 to ``highest``.

    Args:
        weight: Integers, shape (outputs, inputs per group, ...), -128 to 127.
        highest: Highest integer of the activations, at most 255.
    """
    wide = weight.astype(np.int64)
    if wide.shape[1] % 2:
        wide = np.concatenate([wide, np.zeros_like(wide[:, :1])], axis=1)
    first, second = wide[:, 0::2], wide[:, 1::2]
    top = highest * (np.maximum(first, 0) + np.maximum(second, 0))
    bottom = highest * (np.minimum(first, 0) + np.minimum(second, 0))
    return Overflow(int(np.count_nonzero((top > _HIGH) | (bottom < _LOW))), int(top.size))


def overflow_risk(model: onnx.ModelProto) -> dict[str, Overflow]:
    """Return by name what can overflow in each convolution of a QDQ graph with unsigned activations.

    The highest integer is 255, or 127 above the zero-point where the quantizer has a Clip that keeps it there, as
    :func:`yoloqat.engines.rewrite.to_uint8.to_uint8` leaves it.

    Args:
        model: A graph of :func:`yoloqat.engines.rewrite.to_uint8.to_uint8`. Signed activations count as if shifted by 128, as CPU
            runtimes do to them.
    """
    graph = model.graph
    made, constants = producers(graph), initializers(graph)
    risks = {}
    for node in graph.node:
        if node.op_type not in CONVOLUTIONS or any(name not in made for name in node.input[:2]):
            continue
        data, weight = made[node.input[0]], made[node.input[1]]
        if {data.op_type, weight.op_type} != {DEQUANTIZE} or weight.input[0] not in constants:
            continue
        integers = numpy_helper.to_array(constants[weight.input[0]])
        if integers.ndim < 3:  # no weight of a convolution: the runtime will tell
            continue
        groups = attribute(node, "group", 1)
        if node.op_type == "ConvTranspose":
            integers = _by_outputs(integers, groups)
        if integers.shape[1] == 1 and groups > 1:
            continue  # depthwise kernels add in 32 bits
        risks[node.name] = overflowing_pairs(integers, highest=_highest_integer(data, made, constants))
    return risks


def image_layers(model: onnx.ModelProto) -> frozenset[str]:
    """Return the names of the convolutions that read the quantized input of a QDQ graph itself, past a Clip of its range."""
    graph = model.graph
    made = producers(graph)
    inputs = {value.name for value in graph.input}
    found = set()
    for node in graph.node:
        if node.op_type not in CONVOLUTIONS:
            continue
        source = node.input[0]
        while source in made and made[source].op_type in QUANTIZERS | {"Clip"}:
            source = made[source].input[0]
        if source in inputs:
            found.add(node.name)
    return frozenset(found)


def _by_outputs(integers: NDArray[np.generic], groups: int) -> NDArray[np.generic]:
    """Turn a transposed convolution's weight (inputs, outputs / groups, ...) into (outputs, inputs / groups, ...)."""
    parts = np.split(integers, groups, axis=0)
    return np.concatenate([np.swapaxes(part, 0, 1) for part in parts], axis=0)


def _highest_integer(
    dequantizer: onnx.NodeProto, made: Mapping[str, onnx.NodeProto], constants: Mapping[str, onnx.TensorProto]
) -> int:
    quantizer = made.get(dequantizer.input[0])
    source = made.get(quantizer.input[0]) if quantizer is not None else None
    clipped = source is not None and quantizer is not None and source.name == f"{quantizer.name}/Clip"
    point = constants.get(dequantizer.input[2]) if len(dequantizer.input) > 2 else None
    if not clipped or point is None or point.data_type != TensorProto.UINT8:
        return 255
    return min(255, _SIGNED_HIGH + int(numpy_helper.to_array(point).item()))


def _probe() -> onnx.ModelProto:
    """Return a 1x1 convolution whose every pair of products is 2 * 255 * 127."""
    channels = 32
    constants = [
        numpy_helper.from_array(np.array(1, dtype=np.float32), "one"),
        numpy_helper.from_array(np.array(0, dtype=np.uint8), "zero"),
        numpy_helper.from_array(np.full((channels, channels, 1, 1), 127, dtype=np.int8), "codes"),
        numpy_helper.from_array(np.ones(channels, dtype=np.float32), "scales"),
        numpy_helper.from_array(np.zeros(channels, dtype=np.int8), "points"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["codes", "scales", "points"], ["w"], axis=0),
        helper.make_node("Conv", ["dq", "w"], ["y"]),
    ]
    shape = [1, channels, 8, 8]
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def cpu_saturates() -> bool:
    """Return whether OpenVINO's 8-bit convolutions saturate in 16 bits on this processor.

    The answer comes from running one tiny convolution at its worst case, not from a list of processors.
    """
    core = import_openvino().Core()
    model = core.read_model(_probe().SerializeToString())
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    result = compiled([np.full((1, 32, 8, 8), 255, dtype=np.float32)])[0]
    return not np.allclose(result, 32 * 255 * 127, rtol=1e-3)
