"""The places of a model where a quantizer acts: what a scan switches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from yoloqat.errors import CalibrationError, ModelError
from yoloqat.quant import TensorQuantizer
from yoloqat.quant.graph import Executor, Node, Traced
from yoloqat.quant.modules import QuantMixin


@dataclass(frozen=True, eq=False)
class Edge:
    """One use of a quantizer: by one module that holds it, of which several may share it.

    Attributes:
        name: Qualified name of the holder's attribute, e.g. ``"model.0.conv._input_quantizer"``.
        holder: Qualified name of the layer or block that passes a tensor through it.
        attributes: The holder's attributes that are this quantizer.
        quantizer: The quantizer.
        quantizer_name: The one name under which the quantizer is registered, shared scales included.
        is_weight: True for the weight of a layer.
        of_layer: True where the holder is a quantized layer, False for a block that quantizes inside its own forward.
    """

    name: str
    holder: str
    attributes: tuple[str, ...]
    quantizer: TensorQuantizer
    quantizer_name: str
    is_weight: bool
    of_layer: bool


def active_edges(module: nn.Module) -> list[Edge]:
    """Return the uses of all quantizers that are switched on, by order of registration.

    Raises:
        CalibrationError: A quantizer that is switched on has no range.
        ModelError: The model has no quantizer that is switched on.
    """
    registered = {id(child): name for name, child in module.named_modules() if isinstance(child, TensorQuantizer)}
    edges = []
    for holder_name, holder in module.named_modules():
        held: dict[int, list[str]] = {}
        for attribute, child in _held(holder):
            held.setdefault(id(child), []).append(attribute)
        for attributes in held.values():
            quantizer: TensorQuantizer = getattr(holder, attributes[0])
            if quantizer._disabled or not quantizer._if_quant:
                continue
            name = f"{holder_name}.{attributes[0]}"
            if quantizer.amax is None:
                raise CalibrationError(
                    f"quantizer '{name}' has no range", expected="a calibrated model", hint="calibrate it first"
                )
            layer = isinstance(holder, QuantMixin)
            weight = isinstance(holder, QuantMixin) and holder._weight_quantizer is quantizer
            edges.append(
                Edge(name, holder_name, tuple(attributes), quantizer, registered[id(quantizer)], weight, layer)
            )
    if not edges:
        raise ModelError(
            f"the model has {len(edges)} quantizers that are switched on", expected="at least one", hint="calibrate it"
        )
    return edges


def _held(holder: nn.Module) -> Iterator[tuple[str, TensorQuantizer]]:
    """Yield the quantizers that a module holds itself, registered or as references to another module's."""
    for attribute, value in (*vars(holder).items(), *holder._modules.items()):
        if isinstance(value, TensorQuantizer):
            yield attribute, value


def markers(edges: list[Edge], traced: Traced, executor: Executor) -> dict[str, tuple[int, ...]]:
    """Return, for the name of every edge, the positions of the graph's nodes that stand for it.

    A node stands for the edge of the module that reads it. A quantizer that nothing downstream of reaches an output has no
    node.

    Raises:
        ModelError: A node belongs to no edge.
    """
    by_place = {(edge.holder, id(edge.quantizer)): edge.name for edge in edges}
    readers = traced.readers()
    found: dict[str, list[int]] = {edge.name: [] for edge in edges}
    for site in traced.placeholders():
        quantizer = executor.quantizer(site)
        places = [traced.nodes[reader].module for reader in readers[site.index]]
        name = next((by_place[place] for place in _places(places, site, id(quantizer)) if place in by_place), None)
        if name is None:
            raise ModelError(
                f"quantizer '{site.target}' is used in '{', '.join(places)}', which does not hold it",
                expected="a layer or block that holds its quantizers",
                hint="scan a model that yoloqat quantized",
            )
        found[name].append(site.index)
    return {name: tuple(nodes) for name, nodes in found.items()}


def _places(modules: list[str], site: Node, quantizer: int) -> Iterator[tuple[str, int]]:
    """Yield where the holder may be: the readers' modules, then the modules around them, then the owner."""
    for module in modules:
        parts = module.split(".") if module else []
        for length in range(len(parts), -1, -1):
            yield ".".join(parts[:length]), quantizer
    yield str(site.target).rpartition(".")[0], quantizer
