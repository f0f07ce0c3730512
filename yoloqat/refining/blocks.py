"""The float and the quantized model side by side, block by block: how far what each block gives is from the float model's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from yoloqat.quant.graph import Executor, Node, Traced
from yoloqat.quant.graph.flow import block_of
from yoloqat.quant.graph.trace import CONSTANT, INPUT, PARAMETER, PLACEHOLDER

Boundary = Callable[[int, Tensor, Tensor], Tensor]
"""What a block reads of another one, by the position of the node, the float model's value and the quantized one's."""

Objective = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
"""The error, shape (), of the quantized model's outputs (first) against the float model's."""


def relative_error(value: Tensor, wanted: Tensor) -> Tensor:
    """Return the squared error of ``value`` over the square of ``wanted``, shape ()."""
    tiny = torch.finfo(torch.float32).tiny
    return (value - wanted).square().sum() / wanted.square().sum().clamp_min(tiny)


def relative_errors(outputs: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Return the sum of the outputs' relative squared errors: the objective of a module that nothing is known of."""
    pairs = zip(outputs, wanted, strict=True)
    return torch.stack([relative_error(value, target) for value, target in pairs]).sum()


class Blocks:
    """Runs a traced graph twice, float and quantized, and measures every block's error.

    A block is a child of the model's own list of layers (``model.12``) that holds a quantized layer. What lies between
    blocks, a concatenation say, passes on what they give. The outputs' error belongs to the last block.

    Args:
        module: The quantized module.
        traced: Its graph, with its quantizers as placeholders, at the shape of a batch.
        floating: The float model's parameters by name; those that are missing are the module's own of now.
        objective: Of the outputs.
    """

    def __init__(self, module: nn.Module, traced: Traced, floating: Mapping[str, Tensor], objective: Objective) -> None:
        self._traced, self._objective = traced, objective
        self._executor = Executor(module, traced)
        own = {name: value.detach().clone() for name, value in module.named_parameters()}
        self._floating = own | {name: value.to(own[name]) for name, value in floating.items()}
        readers = traced.readers()
        # a quantizer belongs to what reads it: where several share one, it is registered in one place only
        places = [traced.nodes[readers[node.index][0]] if node.op == PLACEHOLDER else node for node in traced.nodes]
        blocks = [block_of(node.module) for node in places]
        weights = (node.index for node in traced.placeholders() if self._executor.layer_of_weight(node) is not None)
        self.names = tuple(dict.fromkeys(blocks[index] for index in weights))
        self._block = [name if name in self.names else None for name in blocks]
        self._given = {
            node.index
            for node in traced.nodes
            if self._block[node.index] is not None
            and node.op not in (PARAMETER, CONSTANT, INPUT)
            and any(self._block[reader] != self._block[node.index] for reader in readers[node.index])
        }
        self._last = {read: node.index for node in traced.nodes for read in node.reads()}
        self._last |= dict.fromkeys(traced.outputs, len(traced.nodes))

    def users(self) -> dict[str, set[str]]:
        """Return the blocks that read through each activation quantizer, by its name."""
        found: dict[str, set[str]] = {}
        for node in self._traced.placeholders():
            block = self._block[node.index]
            if block is not None and self._executor.layer_of_weight(node) is None:
                found.setdefault(str(node.target), set()).add(block)
        return found

    def errors(self, images: Tensor, boundary: Boundary) -> dict[str, Tensor]:
        """Return every block's error, with gradients where they are switched on.

        Args:
            images: Shape, memory format and device as they were traced.
            boundary: Called once for every value that a block reads of another one.

        Returns:
            By block in the order of execution, shape (): the sum over what other blocks read of it of the squared error over the
            squared float value; the last block's with the objective of the outputs.
        """
        floats: dict[int, Any] = {}
        values: dict[int, Any] = {}
        crossed: dict[int, Tensor] = {}
        errors: dict[str, Tensor] = {}
        for node in self._traced.nodes:
            block = self._block[node.index]
            reads = {read: values[read] for read in node.reads()}
            for read in reads if block is not None else ():
                if self._crosses(read, node):
                    if read not in crossed:
                        crossed[read] = boundary(read, floats[read], values[read])
                    reads[read] = crossed[read]
            with torch.no_grad():
                floats[node.index] = self._float(node, floats, images)
            values[node.index] = self._executor.run_node(node, reads, images)
            if node.index in self._given and isinstance(values[node.index], Tensor):
                error = relative_error(values[node.index], floats[node.index])
                errors[str(block)] = errors.get(str(block), 0) + error
            for read in node.reads():
                if self._last[read] == node.index:
                    for kept in (floats, values, crossed):
                        kept.pop(read, None)
        outputs = [[lane[index] for index in self._traced.outputs] for lane in (values, floats)]
        last = self.names[-1]
        errors[last] = errors.get(last, 0) + self._objective(*outputs)
        return {name: errors[name] for name in self.names if name in errors}

    def _crosses(self, read: int, node: Node) -> bool:
        source = self._traced.nodes[read]
        other = self._block[read] != self._block[node.index]
        return other and source.op not in (PARAMETER, CONSTANT, INPUT) and source.shape is not None

    def _float(self, node: Node, floats: dict[int, Any], images: Tensor) -> Any:
        if node.op == PARAMETER:
            value = self._floating.get(str(node.target))
            return self._executor.run_node(node, {}) if value is None else value
        if node.op == PLACEHOLDER:
            return floats[node.args[0].index]
        return self._executor.run_node(node, {read: floats[read] for read in node.reads()}, images)
