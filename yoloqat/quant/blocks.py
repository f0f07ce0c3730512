"""Blocks whose own forward holds quantizers: the inputs of an Add, the factors of a matrix product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Self

from torch import Tensor, nn

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.quant.modules import adopted, replace_children
from yoloqat.quant.tensor_quantizer import TensorQuantizer


def residual_roles(config: QuantConfig, *suffixes: str) -> tuple[str, ...]:
    """Return the roles of the quantized inputs of a block's Adds.

    Args:
        config: Gives the recipe.
        suffixes: One suffix per Add of the block; it makes the role names of that Add unique.
    """
    kinds = {"none": (), "residual": ("residual",), "both": ("residual", "branch")}[config.adds]
    return tuple(f"{kind}{suffix}" for suffix in suffixes for kind in kinds)


class QuantBlock(nn.Module):
    """Base class of quantized blocks; it finds quantizers by role.

    A subclass is also a subclass of the float block and has a forward of its own, in which it passes tensors through
    :meth:`quantized` and :meth:`residual_add`. The quantizer of the role ``residual`` is the attribute ``_residual_quantizer``.
    """

    @classmethod
    def roles(cls, module: nn.Module, config: QuantConfig) -> tuple[str, ...]:
        """Return the roles of the tensors of ``module`` that ``config`` quantizes; without any, the block stays as it is.

        Args:
            module: A block of the class's own float type.
            config: Gives the recipes.
        """
        raise NotImplementedError

    @classmethod
    def from_float(cls, module: nn.Module, *, activations: QuantScheme, roles: tuple[str, ...], name: str = "") -> Self:
        """Make a block that shares the submodules of ``module``.

        Args:
            module: A block of the class's own float type; it keeps working.
            activations: Scheme of the quantizers.
            roles: The tensors to quantize.
            name: Qualified name of the block, for messages.
        """
        block = adopted(cls, module)
        for role in roles:
            attribute = f"_{role}_quantizer"
            quantizer = TensorQuantizer(activations, name=f"{name}.{attribute}", calib_method="histogram")
            setattr(block, attribute, quantizer)
        return block

    def quantized(self, role: str, x: Tensor) -> Tensor:
        """Return ``x`` through the quantizer of ``role``, or as it is where that role has none."""
        quantizer = getattr(self, f"_{role}_quantizer", None)
        result: Tensor = x if quantizer is None else quantizer(x)
        return result

    def residual_add(self, skip: Tensor, branch: Tensor, suffix: str = "") -> Tensor:
        """Return ``skip + branch`` with both passed through their roles."""
        return self.quantized(f"residual{suffix}", skip) + self.quantized(f"branch{suffix}", branch)


def _wanted(
    module: nn.Module, forms: Mapping[type[nn.Module], type[QuantBlock]], config: QuantConfig
) -> Iterator[tuple[str, nn.Module, type[QuantBlock], tuple[str, ...]]]:
    for name, child in module.named_modules():
        form = forms.get(type(child))
        roles = () if form is None or not name else form.roles(child, config)
        if form is not None and roles:
            yield name, child, form, roles


def block_locations(
    module: nn.Module, forms: Mapping[type[nn.Module], type[QuantBlock]], config: QuantConfig
) -> list[str]:
    """Return the qualified names of the quantizers that :func:`swap_blocks` would make; nothing is changed."""
    return [f"{name}._{role}_quantizer" for name, _, _, roles in _wanted(module, forms, config) for role in roles]


def swap_blocks(module: nn.Module, forms: Mapping[type[nn.Module], type[QuantBlock]], config: QuantConfig) -> None:
    """Replace the blocks inside ``module`` that have a quantized form by it, wherever ``config`` quantizes something in them.

    Args:
        module: The model, changed in place.
        forms: Float block to quantized block; only exact types are swapped, since a subclass may compute anything.
        config: Gives the recipes and the scheme of activations.
    """
    swapped: dict[nn.Module, nn.Module] = {
        child: form.from_float(child, activations=config.activations, roles=roles, name=name)
        for name, child, form, roles in _wanted(module, forms, config)
    }
    replace_children(module, swapped)
