"""Scale sharing: find the tensors of a traced graph between which integers pass unchanged."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

from yoloqat.quant.graph.trace import GETITEM, PLACEHOLDER, Node, Ref, Traced

_SINGLE = frozenset(
    {
        "alias",
        "channel_shuffle",
        "chunk",
        "clone",
        "contiguous",
        "detach",
        "dropout",
        "expand",
        "flatten",
        "getitem",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "movedim",
        "narrow",
        "native_channel_shuffle",
        "permute",
        "pixel_shuffle",
        "pixel_unshuffle",
        "reshape",
        "select",
        "slice",
        "split",
        "split_with_sizes",
        "squeeze",
        "t",
        "to",
        "transpose",
        "unbind",
        "unflatten",
        "unsafe_split",
        "unsqueeze",
        "upsample_nearest1d",
        "upsample_nearest2d",
        "upsample_nearest3d",
        "view",
        "_unsafe_view",
    }
)
"""Operators whose output holds nothing but values of their first input."""
_JOINING = frozenset({"cat", "concat", "stack"})
"""Operators whose output holds nothing but values of all tensors in their first argument."""
_PADDING = frozenset({"constant_pad_nd", "pad"})
_ACTIVATIONS = frozenset(
    {"silu", "relu", "relu6", "leaky_relu", "hardswish", "hardtanh", "gelu", "sigmoid", "mish", "elu", "hardsigmoid"}
)
LAYERS = frozenset(
    {"conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear"}
)
"""Operators that a weighted layer runs."""


def operator_name(node: Node) -> str:
    """Return a node's operator without library and overload, e.g. ``"conv2d"`` of ``"aten.conv2d.default"``."""
    return node.op.removeprefix("aten.").partition(".")[0] if node.op != GETITEM else "getitem"


def _pads_zeros(node: Node) -> bool:
    values = dict(zip(("pad", "mode", "value"), node.args[1:], strict=False)) | node.kwargs
    if operator_name(node) == "constant_pad_nd":
        values = dict(zip(("pad", "value"), node.args[1:], strict=False)) | node.kwargs
    return values.get("mode", "constant") == "constant" and not values.get("value")


def carried(node: Node) -> tuple[int, ...]:
    """Return the positions of the inputs whose integers ``node`` passes on unchanged; most operators pass on none.

    Concatenation, slices, maximum pools, nearest upsampling and changes of shape only move values. Padded
    zeros are the integer 0 in every symmetric scheme. An average pool computes new values and carries nothing.
    """
    name = operator_name(node)
    single = name in _SINGLE or (name in _PADDING and _pads_zeros(node))
    if single and node.args and isinstance(node.args[0], Ref):
        return (node.args[0].index,)
    if name in _JOINING and node.args and isinstance(node.args[0], list | tuple):
        return tuple(part.index for part in node.args[0] if isinstance(part, Ref))
    return ()


def quantized_source(traced: Traced, index: int) -> bool:
    """Return whether a quantized layer computes a tensor, perhaps followed by an activation."""
    node: Node = traced.nodes[index]
    while operator_name(node) in _ACTIVATIONS and isinstance(node.args[0], Ref):
        node = traced.nodes[node.args[0].index]
    reads = node.args[:2]  # a float layer may read dequantized values; its weight is float
    quantized = [isinstance(read, Ref) and traced.nodes[read.index].op == PLACEHOLDER for read in reads]
    return operator_name(node) in LAYERS and bool(quantized) and all(quantized)


class UnionFind:
    """Disjoint sets of the integers from 0 to ``size - 1``; its least member identifies a set."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, member: int) -> int:
        """Return the least member of the set that ``member`` is in."""
        root = member
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[member] != root:
            self._parent[member], member = root, self._parent[member]
        return root

    def union(self, first: int, second: int) -> None:
        """Join two sets."""
        low, high = sorted((self.find(first), self.find(second)))
        self._parent[high] = low


def block_of(module: str) -> str:
    """Return the block of the model that a module belongs to: the first two parts of its name (``model.12``)."""
    return ".".join(module.split(".")[:2])


def shared_pairs(traced: Traced, *, sharing: str) -> Iterator[tuple[int, int]]:
    """Yield the pairs of tensors, as positions, between which a scale is carried.

    Args:
        traced: The graph.
        sharing: ``"graph"``: everywhere; ``"block"``: only inside the blocks of the model; ``"tensor"``: nowhere.
    """
    if sharing == "tensor":
        return
    for node in traced.nodes:
        for read in carried(node):
            if sharing == "graph" or block_of(node.module) == block_of(traced.nodes[read].module):
                yield read, node.index


def scale_groups(traced: Traced, *, sharing: str = "graph", unshared: Collection[int] = ()) -> UnionFind:
    """Return the sets of tensors, by position, that share a scale.

    A quantizer that is applied to several tensors joins them: it has one scale. So does an Add whose inputs are both
    quantized, which adds integers only when they mean the same.

    Args:
        traced: A graph traced with its quantizers.
        sharing: Reach of scale sharing, see :func:`shared_pairs`.
        unshared: Tensors that share no scale with any other.
    """
    groups = UnionFind(len(traced.nodes))
    for first, second in shared_pairs(traced, sharing=sharing):
        if first not in unshared and second not in unshared:
            groups.union(first, second)
    by_quantizer: dict[str, int] = {}
    for node in traced.nodes:
        if node.op == PLACEHOLDER:
            tensor = node.args[0].index
            groups.union(by_quantizer.setdefault(str(node.target), tensor), tensor)
        elif operator_name(node) == "add":
            quantized = [
                traced.nodes[read].args[0].index for read in node.reads() if traced.nodes[read].op == PLACEHOLDER
            ]
            for first, second in pairwise(quantized):
                groups.union(first, second)
    return groups
