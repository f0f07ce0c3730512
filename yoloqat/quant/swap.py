"""Replace float layers by quantized ones, recursively, except those that stay float."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from torch import nn

from yoloqat.config import QuantConfig
from yoloqat.errors import ModelError
from yoloqat.quant.modules import QUANT_MODULES, QuantMixin, replace_children
from yoloqat.quant.patterns import match_layers
from yoloqat.quant.tensor_quantizer import TensorQuantizer


def swappable_layers(module: nn.Module) -> list[str]:
    """Return the qualified names of all layers that have a quantized form, in order of registration."""
    kinds = {kind for kind, _ in QUANT_MODULES}
    return [name for name, child in module.named_modules() if type(child) in kinds]


GROUP_MULTIPLE = 4
"""Channels per group that a grouped INT8 convolution of TensorRT needs a multiple of."""
DEPTHWISE_REASON = "depthwise convolution, faster in FP16"
"""Why depthwise convolutions stay float."""
NAMED_REASON = "named by the user"
"""Why ignored layers stay float."""


def group_reason(groups: int, channels: tuple[int, int], config: QuantConfig) -> str | None:
    """Return why a grouped convolution stays float, None where it is quantized.

    Args:
        groups: Of the convolution; 1 for any other layer.
        channels: Of its input and of its output.
        config: Gives the recipe for depthwise convolutions.
    """
    if groups == 1:
        return None
    if groups == channels[0]:
        return None if config.depthwise else DEPTHWISE_REASON
    odd = [count // groups for count in channels if (count // groups) % GROUP_MULTIPLE]
    return f"{odd[0]} channels per group, no multiple of {GROUP_MULTIPLE}" if odd else None


def float_reasons(
    module: nn.Module, config: QuantConfig, *, keep_float: Collection[str] | Mapping[str, str] = ()
) -> dict[str, str]:
    """Return the layers that have a quantized form but stay float, each with the reason.

    Args:
        module: A float model.
        config: Gives the ignore patterns, whether the head is quantized too, and the recipe for depthwise convolutions.
        keep_float: Layers that the detector family keeps float unless ``config.quantize_head`` is set, with the reasons
            where it is a mapping.

    Raises:
        PatternError: An ignore pattern matches no layer.
    """
    names = swappable_layers(module)
    ignored = match_layers(config.ignore, names)
    head = dict(keep_float) if isinstance(keep_float, Mapping) else dict.fromkeys(keep_float, "kept by the family")
    reasons: dict[str, str] = {}
    for name in names:
        layer = module.get_submodule(name)
        groups = getattr(layer, "groups", 1)
        channels = (layer.in_channels, layer.out_channels) if groups > 1 else (1, 1)
        grouped = group_reason(groups, channels, config)  # type: ignore[arg-type]
        if name in ignored:
            reasons[name] = NAMED_REASON
        elif name in head and not config.quantize_head:
            reasons[name] = head[name]
        elif grouped is not None:
            reasons[name] = grouped
    return reasons


def select_layers(
    module: nn.Module, config: QuantConfig, *, keep_float: Collection[str] | Mapping[str, str] = ()
) -> list[str]:
    """Return the names of the layers to quantize: all with a quantized form except those of :func:`float_reasons`.

    Raises:
        PatternError: An ignore pattern matches no layer.
    """
    kept = float_reasons(module, config, keep_float=keep_float)
    return [name for name in swappable_layers(module) if name not in kept]


def swap_layers(module: nn.Module, names: Collection[str], config: QuantConfig) -> None:
    """Replace the named layers inside ``module`` by quantized layers that share their parameters.

    A layer that is registered under several names is replaced under all of them, and stays shared. When an error is raised
    nothing has been replaced.

    Args:
        module: The model, changed in place.
        names: Qualified names, from :func:`select_layers`.
        config: Gives the schemes of activations and weights.

    Raises:
        ModelError: A name is not that of a layer with a quantized form, or the model is itself such a layer.
    """
    forms = dict(QUANT_MODULES)
    swapped: dict[nn.Module, nn.Module] = {}
    for name in names:
        if not name:
            raise ModelError(
                f"the model is itself the layer {type(module).__name__}",
                expected="a model that holds its layers",
                hint="wrap it in torch.nn.Sequential",
            )
        try:
            child = module.get_submodule(name)
        except AttributeError:
            child = None
        form = forms.get(type(child))  # type: ignore[arg-type]
        if child is None or form is None:
            raise ModelError(
                f"layer '{name}' is {'missing' if child is None else type(child).__name__}",
                expected=f"one of {', '.join(kind.__name__ for kind in forms)}",
                hint="swap only layers that the model has",
            )
        if child not in swapped:
            swapped[child] = form.from_float(child, activations=config.activations, weights=config.weights, name=name)
    replace_children(module, swapped)


def quantized_layers(module: nn.Module) -> Iterator[tuple[str, QuantMixin]]:
    """Yield the quantized layers of ``module`` with their qualified names."""
    for name, child in module.named_modules():
        if isinstance(child, QuantMixin):
            yield name, child


def quantizers(module: nn.Module) -> Iterator[tuple[str, TensorQuantizer]]:
    """Yield the quantizers of ``module`` with their qualified names."""
    for name, child in module.named_modules():
        if isinstance(child, TensorQuantizer):
            yield name, child


def activation_quantizers(module: nn.Module) -> Iterator[tuple[str, TensorQuantizer]]:
    """Yield the quantizers of activations with their qualified names, a shared one once, at its owner."""
    weights = {id(layer._weight_quantizer) for _, layer in quantized_layers(module)}
    for name, quantizer in quantizers(module):
        if id(quantizer) not in weights:
            yield name, quantizer
