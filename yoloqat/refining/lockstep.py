"""The float and the quantized model side by side: node by node over all images at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from yoloqat.quant.graph import Executor, Node, Traced
from yoloqat.quant.graph.trace import INPUT, PARAMETER, PLACEHOLDER

Both = tuple[Any, Any]
"""A value of the float model, and that of the quantized one."""


class Lockstep:
    """Runs a traced graph twice at the same time: with its quantizers, and without them on the float model's parameters.

    One node is run on all batches before the next, so that a parameter may be changed between two nodes and everything after it
    sees the change. Values are freed after their last reader.

    Args:
        module: The quantized module.
        traced: Its graph, with its quantizers as placeholders, at the shape of a batch.
        batches: Images, all of the traced shape, memory format and device.
        floating: The float model's parameters by name; None takes those of the module as they are now.
    """

    def __init__(
        self,
        module: nn.Module,
        traced: Traced,
        batches: Sequence[Tensor],
        floating: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._executor = Executor(module, traced)
        self._batches = batches
        own = dict(module.named_parameters()) if floating is None else floating
        self._parameters = {name: value.detach().clone() for name, value in own.items()}
        self._values: list[dict[int, Both]] = [{} for _ in batches]
        self._last = {read: node.index for node in traced.nodes for read in node.reads()}

    def layer_name(self, node: Node) -> str | None:
        """Return the name of the quantized layer whose weight a placeholder stands for, or None."""
        layer = self._executor.layer_of_weight(node)
        return None if layer is None else str(node.target).rpartition(".")[0]

    @torch.no_grad()
    def run(self, node: Node) -> None:
        """Run one node on all batches."""
        for values, images in zip(self._values, self._batches, strict=True):
            values[node.index] = self._run(node, values, images)

    def values(self, node: Node) -> list[tuple[Tensor, Tensor]]:
        """Return what a node that was just run gave, by batch: in the float and in the quantized model."""
        return [values[node.index] for values in self._values]

    @torch.no_grad()
    def add(self, node: Node, shift: Tensor) -> None:
        """Add to the quantized model's value of a node that was just run what its shape broadcasts to."""
        for values in self._values:
            floating, quantized = values[node.index]
            values[node.index] = floating, quantized + shift

    def free(self, node: Node) -> None:
        """Let go of the values that no node after this one reads."""
        for values in self._values:
            for read in (*node.reads(), node.index):
                if self._last.get(read, -1) <= node.index:
                    values.pop(read, None)

    def _run(self, node: Node, values: dict[int, Both], images: Tensor) -> Both:
        if node.op == PARAMETER:
            quantized = self._executor.run_node(node, {})
            return self._parameters.get(str(node.target), quantized), quantized
        reads = {read: values[read][1] for read in node.reads()}
        quantized = self._executor.run_node(node, reads, images)
        if node.op == PLACEHOLDER:
            return values[node.args[0].index][0], quantized
        if node.op == INPUT or all(values[read][0] is value for read, value in reads.items()):
            return quantized, quantized  # nothing upstream is quantized yet
        return self._executor.run_node(node, {read: values[read][0] for read in reads}), quantized
