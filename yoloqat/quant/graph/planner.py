"""The placement plan of a model whose layers and blocks are swapped, from its traced graph."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from torch import nn

from yoloqat.config import QuantConfig
from yoloqat.quant.graph.flow import LAYERS, UnionFind, operator_name, quantized_source, scale_groups
from yoloqat.quant.graph.plan import PlacementPlan, PlannedTensor, ScaleGroup
from yoloqat.quant.graph.text import reader_name
from yoloqat.quant.graph.trace import CONSTANT, INPUT, PARAMETER, PLACEHOLDER, Node, Traced
from yoloqat.quant.patterns import match_layers
from yoloqat.quant.swap import quantized_layers

NO_LAYER = "the Add follows no quantized layer"

_PRODUCTS = frozenset({"matmul", "bmm", "baddbmm", "scaled_dot_product_attention", "einsum"})


def make_plan(
    traced: Traced, config: QuantConfig, *, floats: Mapping[str, str], weights: Collection[str] = ()
) -> PlacementPlan:
    """Plan which quantizers share a scale.

    Every tensor with a quantized reader has one scale. Tensors between which integers pass unchanged share it, as far as
    scale sharing (``config.merge``) reaches: then an engine computes each tensor in integers once and needs no requantization
    at a concat.

    Args:
        traced: The graph of a model in which every location still has its own quantizer.
        config: Gives the recipes.
        floats: Layers that stay float by choice, with the reason.
        weights: Names of the quantizers of weights, which are not planned.

    Raises:
        PatternError: A pattern of ``config.unmerge`` (locations that share no scale) matches no location.
    """
    alone = _lone_skips(traced) if config.adds == "residual" else {}
    locations = [node for node in traced.placeholders() if node.target not in weights and node.target not in alone]
    groups = planned_groups(traced, config, locations)
    names = _tensor_names(traced)
    tensors: dict[int, list[str]] = {}
    for node in locations:
        tensors.setdefault(node.args[0].index, []).append(str(node.target))
    members: dict[int, list[PlannedTensor]] = {}
    for tensor, readers in tensors.items():
        members.setdefault(groups.find(tensor), []).append(PlannedTensor(names[tensor], tuple(readers)))
    reasons = dict(floats) | {reader_name(location): reason for location, reason in alone.items()}
    unreached = []
    for chosen, what, why in _unquantized(traced, config, floats=floats):
        if chosen:
            reasons[what] = why
        else:
            unreached.append(f"{what}: {why}")
    return PlacementPlan(tuple(ScaleGroup(tuple(group)) for group in members.values()), reasons, tuple(unreached))


def planned_groups(traced: Traced, config: QuantConfig, locations: Sequence[Node]) -> UnionFind:
    """Return the sets of tensors that share a scale, by the recipes of ``config``.

    Args:
        traced: The graph.
        config: Gives how far sharing reaches, and the locations that share no scale.
        locations: The placeholders of activations.

    Raises:
        PatternError: A pattern of ``config.unmerge`` matches no location.
    """
    named = match_layers(config.unmerge, [str(node.target) for node in locations], option="unmerge")
    unshared = {node.args[0].index for node in locations if node.target in named}
    return scale_groups(traced, sharing=config.merge, unshared=unshared)


def plan_module(module: nn.Module, traced: Traced, config: QuantConfig, *, floats: Mapping[str, str]) -> PlacementPlan:
    """Plan which quantizers of ``module`` share a scale; arguments as of :func:`make_plan`."""
    weights = {f"{name}._weight_quantizer" for name, _ in quantized_layers(module)}
    return make_plan(traced, config, floats=floats, weights=weights)


def _tensor_names(traced: Traced) -> dict[int, str]:
    """Return a unique name for every tensor: the module and the operator that make it."""
    names: dict[int, str] = {}
    seen: dict[str, int] = {}
    for node in traced.nodes:
        if node.op in (INPUT, PARAMETER, CONSTANT):
            name = "input" if node.op == INPUT else str(node.target)
        elif operator_name(node) == "getitem":
            name = f"{names[node.args[0].index]}[{node.args[1]}]"
        else:
            name = f"{node.module}:{operator_name(node)}"
        seen[name] = seen.get(name, 0) + 1
        names[node.index] = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return names


def _lone_skips(traced: Traced) -> dict[str, str]:
    """Return the locations of skips whose quantizer would not help, each with the reason.

    An engine fuses an Add into the convolution before it, and reads the skip in integers there; where a float layer or
    another operation comes before the Add, there is nothing to fuse it into.
    """
    found = {}
    for node in traced.nodes:
        reads = node.reads() if operator_name(node) == "add" else ()
        skips = [read for read in reads if traced.nodes[read].op == PLACEHOLDER]
        if len(reads) == 2 and len(skips) == 1:
            (branch,) = (read for read in reads if read not in skips)
            if not quantized_source(traced, branch):
                found[str(traced.nodes[skips[0]].target)] = NO_LAYER
    return found


def _unquantized(traced: Traced, config: QuantConfig, *, floats: Mapping[str, str]) -> Iterator[tuple[bool, str, str]]:
    """Yield (by choice, description, reason) for each operator that an engine could run in integers and that stays float."""
    for node in traced.nodes:
        reads = [read for read in node.reads() if traced.nodes[read].op not in (PARAMETER, CONSTANT)]
        if any(traced.nodes[read].op == PLACEHOLDER for read in reads):
            continue
        kind = operator_name(node)
        where = f"{kind} in {node.module or 'the model'} ({node.module_type.rpartition('.')[2]})"
        if kind in LAYERS and node.module not in floats:
            yield False, where, "no quantized form of this module"
        elif kind in _PRODUCTS and len(reads) > 1:
            yield not config.attention, where, "no quantized form of this block" if config.attention else "by option"
        elif kind == "add" and len(set(reads)) == 2 and all(len(traced.nodes[r].shape or ()) == 4 for r in reads):
            if config.adds == "none":
                yield True, where, "by recipe"
            elif any(quantized_source(traced, read) for read in reads):
                yield False, where, "no quantized form of this block"
            else:
                yield True, where, NO_LAYER
