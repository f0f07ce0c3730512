"""Placement of quantizers on a float ONNX graph, by the rules that hold on the graph of a torch model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx

from yoloqat.config import QuantConfig
from yoloqat.errors import ConfigError
from yoloqat.onnx_graph.graph import attribute, free_name, text_attribute
from yoloqat.onnx_graph.groups import Groups
from yoloqat.onnx_graph.index import Index, index_of
from yoloqat.onnx_graph.operators import CONVOLUTIONS, data_inputs, gated_tensor, moves_values
from yoloqat.onnx_quant.float_graph import layer_nodes, node_path
from yoloqat.onnx_quant.heads import head_reasons
from yoloqat.quant.graph.plan import PlacementPlan, PlannedTensor, ScaleGroup
from yoloqat.quant.graph.planner import NO_LAYER
from yoloqat.quant.graph.text import reader_name
from yoloqat.quant.patterns import match_layers
from yoloqat.quant.swap import group_reason

INPUT = "_input_quantizer"
_GATES = ("Sigmoid", "HardSigmoid")
_ACTIVATIONS = frozenset(
    {"Relu", "LeakyRelu", "Clip", "HardSwish", "Gelu", "Sigmoid", "HardSigmoid", "Mish", "Elu", "PRelu", "Swish"}
)


@dataclass(frozen=True)
class Use:
    """One input of a node that a quantizer reads.

    Attributes:
        location: Name of the quantizer location, e.g. ``"model.0.conv._input_quantizer"``.
        holder: The layer, or the block of an Add.
        node: Name of the node.
        position: Which of its inputs.
        tensor: What lies there in the float graph.
        of_layer: False for the input of an Add or of a matrix product.
    """

    location: str
    holder: str
    node: str
    position: int
    tensor: str
    of_layer: bool = True


@dataclass(frozen=True)
class OnnxPlacement:
    """The placement of quantizers on a graph.

    Attributes:
        plan: Locations and the scales that they share; a tensor has its name in the graph.
        uses: Where the quantizers of activations are, in the order of execution.
        layers: The layers whose weights are quantized, in the order of execution.
    """

    plan: PlacementPlan
    uses: tuple[Use, ...]
    layers: tuple[str, ...]

    @property
    def owners(self) -> dict[str, str]:
        """Each location, to the first location with its scale."""
        return {location: group.owner for group in self.plan.groups for location in group.locations}


def place(model: onnx.ModelProto, config: QuantConfig, outputs: Sequence[str] = ()) -> OnnxPlacement:
    """Plan the quantizers of a float graph.

    Args:
        model: In normal form, see :func:`yoloqat.onnx_quant.float_graph.float_graph`.
        config: Which layers, and how.
        outputs: Where the heads end, see :func:`yoloqat.onnx_quant.heads.head_reasons`.

    Raises:
        PatternError: A pattern matches nothing, or ``outputs`` names nothing.
        ConfigError: The patterns leave no layer to quantize, or the scheme has another width than 8 bits or needs the blocks
            of a torch model.
    """
    _check(config)
    index = index_of(model)
    nodes = layer_nodes(index)
    reasons = _float_reasons(index, nodes, config, head_reasons(index, nodes, outputs))
    layers = {node: layer for node, layer in nodes.items() if layer not in reasons}
    if not layers:
        raise ConfigError(
            f"of {len(set(nodes.values()))} layers none is left to quantize",
            expected="at least one quantized layer",
            hint="leave fewer in `ignore`, or name heads further back in `outputs`",
        )
    uses = [
        Use(f"{layers[node.name]}.{INPUT}", layers[node.name], node.name, 0, node.input[0])
        for node in index.nodes
        if node.name in layers
    ]
    skips, lone = _skips(index, nodes, set(layers), config)
    uses += skips + (_products(index) if config.attention else [])
    order = {node.name: number for number, node in enumerate(index.nodes)}
    uses.sort(key=lambda use: (order[use.node], use.position))
    groups = _scales(index, uses, config)
    plan = PlacementPlan(groups, reasons | lone)
    return OnnxPlacement(plan, tuple(uses), tuple(dict.fromkeys(layers.values())))


def _check(config: QuantConfig) -> None:
    bits = {config.activations.bits, config.weights.bits} - {8}
    if bits:
        raise ConfigError(
            f"bits is {min(bits)} with an ONNX file",
            expected="8, the width that QuantizeLinear has in every engine",
            hint="leave `bits` out, or pass the .pt",
        )
    if config.merge == "block":
        raise ConfigError(
            f"merge is '{config.merge}' with an ONNX file",
            expected="graph or tensor: the file does not tell its blocks",
            hint="choose one of them, or pass the .pt",
        )


def _float_reasons(
    index: Index, nodes: Mapping[str, str], config: QuantConfig, heads: Mapping[str, str]
) -> dict[str, str]:
    names = list(dict.fromkeys(nodes.values()))
    ignored = match_layers(config.ignore, names)
    reasons: dict[str, str] = {}
    for node in index.nodes:
        layer = nodes.get(node.name, "")
        if not layer:
            continue
        grouped = _group_reason(index, node, config)
        if layer in ignored:
            reasons[layer] = "named by the user"
        elif layer in heads and not config.quantize_head:
            reasons[layer] = heads[layer]
        elif grouped is not None:
            reasons[layer] = grouped
    return reasons


def _group_reason(index: Index, node: onnx.NodeProto, config: QuantConfig) -> str | None:
    groups = attribute(node, "group", 1) if node.op_type in CONVOLUTIONS else 1
    first, second = index.tensors[node.input[1]].dims[:2]
    channels = (second * groups, first) if node.op_type == "Conv" else (first, second * groups)
    if groups > 1 and node.op_type == "ConvTranspose":
        return f"transposed convolution of {groups} groups"  # its scales would be one per channel of a group
    return group_reason(groups, channels, config)


def _skips(
    index: Index, nodes: Mapping[str, str], layers: Collection[str], config: QuantConfig
) -> tuple[list[Use], dict[str, str]]:
    """Return the quantized inputs of residual Adds, and those whose Add follows no quantized layer, with the reason.

    An engine fuses an Add into the convolution before it when its other input, the skip, is quantized.
    """
    if config.adds == "none":
        return [], {}
    depth = _depths(index, nodes)
    taken: set[str] = set()
    uses: list[Use] = []
    lone: dict[str, str] = {}
    for number, node in enumerate(index.nodes):
        if node.op_type != "Add" or len(set(node.input)) != 2 or any(name in index.constant for name in node.input):
            continue
        sources = [_source(index, name) for name in node.input]
        skip = 0 if depth.get(node.input[0], 0) <= depth.get(node.input[1], 0) else 1
        branch, other = sources[1 - skip], sources[skip]
        if not any(source is not None and source.op_type in CONVOLUTIONS for source in (branch, other)):
            continue  # a sum of the decoding, or of attention
        block = node_path(node, number)
        block = free_name(block, taken) if block in taken else block
        taken.add(block)
        roles = {"_residual_quantizer": skip} | ({"_branch_quantizer": 1 - skip} if config.adds == "both" else {})
        found = [
            Use(f"{block}.{role}", block, node.name, position, node.input[position], of_layer=False)
            for role, position in roles.items()
        ]
        if config.adds == "both" or (branch is not None and branch.name in layers):
            uses += found
        else:
            lone[reader_name(found[0].location)] = NO_LAYER
    return uses, lone


def _depths(index: Index, nodes: Mapping[str, str]) -> dict[str, int]:
    """Return the longest way of layers that leads to each tensor: of an Add's inputs the skip has the shorter one."""
    depth: dict[str, int] = {}
    for node in index.nodes:
        before = max((depth.get(name, 0) for name in node.input), default=0)
        depth.update(dict.fromkeys(node.output, before + (node.name in nodes)))
    return depth


def _source(index: Index, tensor: str) -> onnx.NodeProto | None:
    """Return the node that computes a tensor, perhaps followed by activations."""
    node = index.made.get(tensor)
    while node is not None:
        gated = gated_tensor(node, index.made, _GATES)
        if gated is None and node.op_type not in _ACTIVATIONS:
            return node
        node = index.made.get(gated or node.input[0])
    return None


def _products(index: Index) -> list[Use]:
    """Return the factors of the matrix products of two activations."""
    return [
        Use(f"{node.name}._{side}_quantizer", node.name, node.name, position, node.input[position], of_layer=False)
        for node in index.nodes
        if node.op_type == "MatMul" and not any(name in index.constant for name in node.input)
        for position, side in enumerate(("left", "right"))
    ]


def _scales(index: Index, uses: Sequence[Use], config: QuantConfig) -> tuple[ScaleGroup, ...]:
    named = match_layers(config.unmerge, [use.location for use in uses], option="unmerge")
    unshared = {use.tensor for use in uses if use.location in named}
    groups = Groups()
    for first, second in _shared_pairs(index) if config.merge == "graph" else ():
        if first not in unshared and second not in unshared:
            groups.join(first, second)
    by_location: dict[str, str] = {}
    by_add: dict[str, list[str]] = {}
    for use in uses:
        groups.join(by_location.setdefault(use.location, use.tensor), use.tensor)
        if use.location.endswith(("._residual_quantizer", "._branch_quantizer")):
            by_add.setdefault(use.node, []).append(use.tensor)
    for tensors in by_add.values():
        for first, second in pairwise(tensors):
            groups.join(first, second)
    readers: dict[str, list[str]] = {}
    for use in uses:
        readers.setdefault(use.tensor, []).append(use.location)
    members: dict[str, list[PlannedTensor]] = {}
    for tensor, locations in readers.items():
        planned = PlannedTensor(tensor, tuple(dict.fromkeys(locations)))
        members.setdefault(groups.root(tensor), []).append(planned)
    return tuple(ScaleGroup(tuple(group)) for group in members.values())


def _shared_pairs(index: Index) -> Iterator[tuple[str, str]]:
    """Yield the tensors between which integers pass unchanged."""
    for node in index.nodes:
        if node.op_type == "Concat" or moves_values(node) or _pads_zeros(index, node):
            for read in data_inputs(node):
                if read not in index.constant:
                    yield from ((read, made) for made in node.output if made)


def _pads_zeros(index: Index, node: onnx.NodeProto) -> bool:
    if node.op_type != "Pad" or text_attribute(node, "mode", "constant") != "constant":
        return False
    value = index.value(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(())
    return value is not None and bool(np.all(np.abs(value) <= np.finfo(np.float32).tiny))
