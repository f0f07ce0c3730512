"""Run a traced graph node by node with the module's own quantizers; results equal the module's bit for bit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from yoloqat.errors import ModelError
from yoloqat.quant.graph.trace import CONSTANT, GETITEM, INPUT, PARAMETER, PLACEHOLDER, Node, Ref, Traced
from yoloqat.quant.modules import QuantMixin
from yoloqat.quant.tensor_quantizer import TensorQuantizer


class Executor:
    """Runs the nodes of a traced graph one at a time.

    It runs the same operators on the same values in the same order as the module does, so that its results are the module's
    own at the same shape, memory format, device and number of threads. Parameters and quantizers are read at
    execution, so that changes of the module take effect here.

    Args:
        module: The module that was traced.
        traced: Its graph.
    """

    def __init__(self, module: nn.Module, traced: Traced) -> None:
        self.traced = traced
        self._state = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers())}
        modules = dict(module.named_modules())
        self._quantizers: dict[str, TensorQuantizer] = {
            name: child for name, child in modules.items() if isinstance(child, TensorQuantizer)
        }
        self._weights = {
            f"{name}._weight_quantizer": child for name, child in modules.items() if isinstance(child, QuantMixin)
        }

    def quantizer(self, node: Node) -> TensorQuantizer:
        """Return the quantizer that a placeholder stands for."""
        return self._quantizers[str(node.target)]

    def layer_of_weight(self, node: Node) -> QuantMixin | None:
        """Return the layer whose weight a placeholder stands for, or None where it stands for an activation."""
        return self._weights.get(str(node.target))

    def arguments(self, node: Node, values: dict[int, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return a node's arguments with the values of other nodes in their places."""
        return _filled(node.args, values), _filled(node.kwargs, values)

    def run_node(self, node: Node, values: dict[int, Any], images: Tensor | None = None) -> Any:
        """Return the value of one node; the module and ``values`` stay unchanged.

        Args:
            node: The node.
            values: Values of the nodes it reads, by position.
            images: The module's input, for the node that stands for it.

        Raises:
            ModelError: The images have another shape than those that were traced.
        """
        if node.op == INPUT:
            if images is None or tuple(images.shape) != node.shape:
                raise ModelError(
                    f"the images have the shape {None if images is None else tuple(images.shape)}",
                    expected=f"{node.shape}, as they were traced",
                    hint="trace the module at that shape",
                )
            return images
        if node.op == PARAMETER:
            return self._state[str(node.target)]
        if node.op == CONSTANT:
            return self.traced.constants[str(node.target)]
        if node.op == PLACEHOLDER:
            layer = self.layer_of_weight(node)
            return layer.quantized_weight() if layer is not None else self.quantizer(node)(values[node.args[0].index])
        args, kwargs = self.arguments(node, values)
        if node.op == GETITEM:
            return args[0][args[1]]
        assert node.function is not None  # noqa: S101 - only the ops above have none
        return node.function(*args, **kwargs)

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Run the whole graph and return its outputs; each value is freed after its last reader."""
        last = {read: node.index for node in self.traced.nodes for read in node.reads()}
        last |= dict.fromkeys(self.traced.outputs, len(self.traced.nodes))
        values: dict[int, Any] = {}
        with torch.inference_mode():
            for node in self.traced.nodes:
                values[node.index] = self.run_node(node, values, images)
                for read in node.reads():
                    if last[read] == node.index:
                        del values[read]
        return [values[index] for index in self.traced.outputs]


def _filled(argument: Any, values: dict[int, Any]) -> Any:
    if isinstance(argument, Ref):
        return values[argument.index]
    if isinstance(argument, list | tuple):
        return type(argument)(_filled(part, values) for part in argument)
    if isinstance(argument, dict):
        return {name: _filled(part, values) for name, part in argument.items()}
    return argument
