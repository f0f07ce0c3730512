"""Scale sharing: one quantizer for several locations, registered at its owner and referenced by the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from yoloqat.errors import ModelError
from yoloqat.quant.modules import adopted
from yoloqat.quant.tensor_quantizer import TensorQuantizer


def locate_quantizer(module: nn.Module, location: str) -> tuple[nn.Module, str, TensorQuantizer]:
    """Return the module that holds the quantizer of a location, the name of its attribute, and the quantizer.

    Args:
        module: The model.
        location: Qualified name, e.g. ``"model.2.cv1.conv._input_quantizer"``.

    Raises:
        ModelError: There is no such quantizer.
    """
    path, _, attribute = location.rpartition(".")
    try:
        holder = module.get_submodule(path)
    except AttributeError:
        holder = None
    quantizer = getattr(holder, attribute, None)
    if holder is None or not isinstance(quantizer, TensorQuantizer):
        raise ModelError(
            f"the model has no quantizer '{location}'",
            expected="the quantizers that its placement names",
            hint="calibrate the float model again",
        )
    return holder, attribute, quantizer


def share_quantizers(module: nn.Module, aliases: Mapping[str, str]) -> None:
    """Let locations share the quantizer of another location.

    The quantizer stays registered at its owner, so that a state dict, a device move and ``named_modules`` meet it once;
    copies and pickles of the whole model keep it shared.

    Args:
        module: The model, changed in place.
        aliases: Qualified name of each location that gives up its quantizer, to that of the owner whose quantizer it takes.

    Raises:
        ModelError: A location or an owner is not in the model.
    """
    found = {name: locate_quantizer(module, name) for name in (*aliases, *aliases.values())}
    for location, owner in aliases.items():
        holder, attribute, _ = found[location]
        holder._modules.pop(attribute, None)
        object.__setattr__(holder, attribute, found[owner][2])  # past nn.Module's, which would register it here too


def remove_quantizers(module: nn.Module, locations: Iterable[str]) -> None:
    """Remove the quantizers at ``locations`` from their blocks; the tensors they read stay float.

    Raises:
        ModelError: A location is not in the model.
    """
    for location in locations:
        holder, attribute, _ = locate_quantizer(module, location)
        delattr(holder, attribute)


def shared_locations(module: nn.Module) -> dict[str, str]:
    """Return each location of ``module`` that uses the quantizer of another, to the owner of that quantizer."""
    owners = {id(child): name for name, child in module.named_modules() if isinstance(child, TensorQuantizer)}
    return {
        f"{path}.{attribute}" if path else attribute: owners[id(value)]
        for path, holder in module.named_modules()
        for attribute, value in vars(holder).items()
        if isinstance(value, TensorQuantizer) and id(value) in owners
    }


@contextmanager
def unshared(module: nn.Module) -> Iterator[None]:
    """Give every location its own copy of a shared quantizer inside the block, so that each location has its own name.

    Attributes set on a copy are lost afterwards; ranges and statistics stay those of the shared quantizer.
    """
    found = [locate_quantizer(module, location) for location in shared_locations(module)]
    try:
        for holder, attribute, quantizer in found:
            setattr(holder, attribute, adopted(TensorQuantizer, quantizer))
        yield
    finally:
        for holder, attribute, quantizer in found:
            holder._modules.pop(attribute, None)
            object.__setattr__(holder, attribute, quantizer)
