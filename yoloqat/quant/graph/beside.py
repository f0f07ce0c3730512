"""Float layers that read what quantized layers read too.

What makes such a tensor has to write it in float for the one, and a Q of its own follows for the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import nn

from yoloqat.config import QuantConfig
from yoloqat.quant.dequantized import dequantizable
from yoloqat.quant.graph.flow import LAYERS, carried, operator_name, quantized_source
from yoloqat.quant.graph.planner import planned_groups
from yoloqat.quant.graph.trace import PLACEHOLDER, Node, Ref, Traced
from yoloqat.quant.swap import quantized_layers


def beside_quantized(traced: Traced, layers: Collection[str]) -> list[str]:
    """Return those of some float layers whose input a quantized layer reads too, in order of execution.

    Args:
        traced: The graph of a model in which every location has its own quantizer.
        layers: Names of layers that are float in it.
    """
    read = {node.args[0].index for node in traced.placeholders() if str(node.target).endswith("._input_quantizer")}
    return list(dict.fromkeys(node.module for node, tensor in _reads(traced, layers) if tensor in read))


def dequantized_readers(
    module: nn.Module, traced: Traced, config: QuantConfig, layers: Collection[str], *, beside: Collection[str] = ()
) -> list[str]:
    """Return those of some float convolutions that should read dequantized values, in order of execution.

    Where one reads what a quantized layer and its activation compute, and all other readers of that tensor want integers of one
    scale, the layer writes integers as soon as the convolution reads them dequantized. Where anything else reads the
    tensor in float, it would win nothing.

    Args:
        module: The traced model.
        traced: Its graph, in which every location has its own quantizer.
        config: Gives how far scales are shared.
        layers: Names of layers that are float in it and may read dequantized values.
        beside: Names of layers that are float in it and are going to be quantized because of what else reads their input.

    Raises:
        PatternError: A pattern of ``config.unmerge`` matches no location.
    """
    fed = {name for name in layers if name not in beside and dequantizable(module.get_submodule(name))}
    if not fed:
        return []
    weights = {f"{name}._weight_quantizer" for name, _ in quantized_layers(module)}
    locations = [node for node in traced.placeholders() if node.target not in weights]
    groups, readers = planned_groups(traced, config, locations), traced.readers()

    def integers(tensor: int) -> bool:
        """Return whether all readers want integers of one scale or can read dequantized ones, and one wants integers."""
        waiting, wanted = [tensor], False
        while waiting:
            current = waiting.pop()
            if current in traced.outputs or not readers[current]:
                return False
            for node in (traced.nodes[reader] for reader in readers[current]):
                if node.op == PLACEHOLDER:
                    if groups.find(current) != groups.find(tensor):
                        return False
                    wanted = True
                elif current in carried(node):
                    waiting.append(node.index)
                elif current == tensor and _reads_first(node, current) and node.module in {*fed, *beside}:
                    wanted |= node.module in beside
                else:
                    return False
        return wanted

    found = (node.module for node, read in _reads(traced, fed) if quantized_source(traced, read) and integers(read))
    return list(dict.fromkeys(found))


def _reads(traced: Traced, layers: Collection[str]) -> Iterator[tuple[Node, int]]:
    """Yield the operators of some layers, each with the tensor that it reads."""
    for node in traced.nodes:
        first = node.args[0] if node.args else None
        if node.module in layers and operator_name(node) in LAYERS and isinstance(first, Ref):
            yield node, first.index


def _reads_first(node: Node, tensor: int) -> bool:
    return operator_name(node) in LAYERS and node.args[0] == Ref(tensor)
