"""The edges of a model, which are the uses of its quantizers, and how single ones are switched."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

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


def placeholders(edges: list[Edge], traced: Traced, executor: Executor) -> dict[str, tuple[int, ...]]:
    """Return, for the name of every edge, the positions of the graph's nodes that stand for it.

    A node stands for the edge of the module that reads it. A quantizer that nothing downstream of reaches an output has no
    node.

    Raises:
        ModelError: A node belongs to no edge.
    """
    by_place = {(edge.holder, id(edge.quantizer)): edge.name for edge in edges}
    readers = traced.readers()
    found: dict[str, list[int]] = {edge.name: [] for edge in edges}
    for placeholder in traced.placeholders():
        quantizer = executor.quantizer(placeholder)
        places = [traced.nodes[reader].module for reader in readers[placeholder.index]]
        name = next(
            (by_place[place] for place in _places(places, placeholder, id(quantizer)) if place in by_place), None
        )
        if name is None:
            raise ModelError(
                f"quantizer '{placeholder.target}' is used in '{', '.join(places)}', which does not hold it",
                expected="a layer or block that holds its quantizers",
                hint="scan a model that yoloqat quantized",
            )
        found[name].append(placeholder.index)
    return {name: tuple(nodes) for name, nodes in found.items()}


def _places(modules: list[str], placeholder: Node, quantizer: int) -> Iterator[tuple[str, int]]:
    """Yield where the holder may be: the readers' modules, then the modules around them, then the owner."""
    for module in modules:
        parts = module.split(".") if module else []
        for length in range(len(parts), -1, -1):
            yield ".".join(parts[:length]), quantizer
    yield str(placeholder.target).rpartition(".")[0], quantizer


@dataclass(frozen=True)
class Switch:
    """How an edge is switched.

    Attributes:
        bits: Bit width, with the range as it is; None switches the edge off.
    """

    bits: int | None = None


OFF = Switch()


def switched_quantizer(quantizer: TensorQuantizer, switch: Switch) -> TensorQuantizer:
    """Return a quantizer with the same range that acts as ``switch`` says; the given one stays as it is."""
    other = copy.copy(quantizer)  # shares the range, which nobody changes
    if switch.bits is None:
        other._disabled = True
    else:
        other.scheme = replace(quantizer.scheme, bits=switch.bits)
    return other


@contextmanager
def switched(module: nn.Module, edges: Mapping[str, Edge], switches: Mapping[str, Switch]) -> Iterator[None]:
    """Run ``module`` with some edges switched; other users of the same quantizers are not touched.

    Args:
        module: The model.
        edges: Its edges by name.
        switches: What becomes of which edge, by its name.
    """
    kept: list[tuple[nn.Module, str, TensorQuantizer, bool]] = []
    try:
        for name, switch in switches.items():
            edge = edges[name]
            holder = module.get_submodule(edge.holder)
            other = switched_quantizer(edge.quantizer, switch)
            for attribute in edge.attributes:
                registered = attribute in holder._modules
                kept.append((holder, attribute, edge.quantizer, registered))
                _hold(holder, attribute, other, registered)
        yield
    finally:
        for holder, attribute, quantizer, registered in reversed(kept):
            _hold(holder, attribute, quantizer, registered)


def _hold(holder: nn.Module, attribute: str, quantizer: TensorQuantizer, registered: bool) -> None:
    if registered:
        holder._modules[attribute] = quantizer
    else:
        object.__setattr__(holder, attribute, quantizer)  # a plain reference, which nn.Module's would register
