"""Float layers replaced by quantized ones, recursively, but for those that are to stay float."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import nn

from yoloqat.config import QuantConfig
from yoloqat.errors import ModelError
from yoloqat.quant.modules import QUANT_MODULES, QuantMixin
from yoloqat.quant.patterns import match_layers
from yoloqat.quant.tensor_quantizer import TensorQuantizer


def swappable_layers(module: nn.Module) -> list[str]:
    """Return the qualified names of all layers that have a quantized form, in order of registration."""
    kinds = {kind for kind, _ in QUANT_MODULES}
    return [name for name, child in module.named_modules() if type(child) in kinds]


def select_layers(module: nn.Module, config: QuantConfig, *, keep_float: Collection[str] = ()) -> list[str]:
    """Return the names of the layers to quantize.

    Args:
        module: A float model.
        config: Gives the ignore patterns and whether the head is quantized too.
        keep_float: Layers that the detector family keeps float unless ``config.quantize_head`` is set.

    Raises:
        PatternError: An ignore pattern matches no layer.
    """
    names = swappable_layers(module)
    ignored = match_layers(config.ignore, names)
    if not config.quantize_head:
        ignored |= set(keep_float)
    return [name for name in names if name not in ignored]


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
                mend="wrap it in torch.nn.Sequential",
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
                mend="swap only layers that the model has",
            )
        if child not in swapped:
            swapped[child] = form.from_float(child, activations=config.activations, weights=config.weights, name=name)
    for parent in list(module.modules()):
        for child_name, child in list(parent._modules.items()):  # named_children leaves out a second name
            if child in swapped:
                setattr(parent, child_name, swapped[child])


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
