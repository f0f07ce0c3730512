"""Rules about Q/DQ pairs: doubled, unlike each other, or in the middle of what the engine fuses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from yoloqat.linting.finding import Hit, gathered
from yoloqat.linting.graph import Graph
from yoloqat.linting.qdq_nodes import QdqNode
from yoloqat.onnx_graph.operators import CONVOLUTIONS

_RECTIFIERS = frozenset({"Relu", "LeakyRelu", "PRelu", "Clip", "Elu", "Celu", "Selu", "ThresholdedRelu", "Softplus"})
_SQUASHES = frozenset({"Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Mish", "Gelu", "Tanh", "Softsign"})
ACTIVATIONS = _RECTIFIERS | _SQUASHES | {"BatchNormalization"}
"""What an engine fuses into the convolution before it."""
_BEFORE_ACTIVATIONS = CONVOLUTIONS | {"Gemm", "BatchNormalization"}


def same(first: NDArray[np.generic] | None, second: NDArray[np.generic] | None) -> bool:
    """Return whether two constants hold the same values, whatever their shape; unknown ones are taken for the same."""
    return first is None or second is None or np.array_equal(first.ravel(), second.ravel())


def duplicates(graph: Graph) -> Iterator[Hit]:
    """Find tensors with several QuantizeLinear."""
    by_tensor: dict[str, list[QdqNode]] = defaultdict(list)
    for qdq in graph.activation_quantizers:
        by_tensor[qdq.data].append(qdq)
    equal: list[tuple[str, str]] = []
    unequal: list[tuple[str, str]] = []
    for tensor, qdq_nodes in by_tensor.items():
        if len(qdq_nodes) > 1:
            alike = all(
                same(qdq_nodes[0].scale, qdq.scale) and same(qdq_nodes[0].zero_point, qdq.zero_point)
                for qdq in qdq_nodes
            )
            (equal if alike else unequal).extend((qdq.name, f"reads '{tensor}'") for qdq in qdq_nodes)
    yield from gathered("tensors are quantized more than once with the same qparams", equal)
    yield from gathered("tensors are quantized more than once with different qparams", unequal)


def pairs(graph: Graph) -> list[Hit]:
    """Find a DequantizeLinear whose qparams are not those of its QuantizeLinear."""
    return gathered(
        "a DequantizeLinear has other qparams than its QuantizeLinear",
        [
            (behind.name, f"follows '{qdq.name}'")
            for qdq in graph.qdq_nodes
            if qdq.quantizes
            for behind in graph.dequantizers(qdq)
            if not behind.quantizes and not (same(qdq.scale, behind.scale) and same(qdq.zero_point, behind.zero_point))
        ],
    )


def _without_pair(graph: Graph, tensor: str) -> str:
    """Return the tensor before the Q/DQ pair that gives ``tensor``, or ``tensor`` itself."""
    for quantizes in (False, True):
        qdq = graph.giving.get(tensor)
        if qdq is None or qdq.quantizes != quantizes:
            return tensor
        tensor = qdq.data
    return tensor


def inside_activation(graph: Graph) -> list[Hit]:
    """Find Q/DQ between a convolution and its batch-norm or activation, and inside SiLU (between Sigmoid and Mul)."""
    index = graph.index
    found = []
    for qdq in graph.activation_quantizers:
        maker = index.made.get(qdq.data)
        if maker is None:  # the image itself
            continue
        for reader in graph.readers_behind(qdq):
            if maker.op_type in _BEFORE_ACTIVATIONS and reader.op_type in ACTIVATIONS:
                found.append((qdq.name, f"stands between {maker.op_type} and {reader.op_type}"))
                break
            if maker.op_type == "Sigmoid" and maker.input and reader.op_type == "Mul":
                gated = _without_pair(graph, maker.input[0])
                if any(_without_pair(graph, name) == gated for name in reader.input):
                    found.append((qdq.name, "stands between Sigmoid and Mul of a SiLU"))
                    break
    return gathered("Q/DQ stand between a convolution and its activation", found)
