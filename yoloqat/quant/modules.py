"""Layers that fake-quantize their input and their weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloqat.config import QuantScheme
from yoloqat.quant.functional import reduce_amax
from yoloqat.quant.tensor_quantizer import TensorQuantizer


@dataclass(frozen=True)
class _Quantized:
    """A cached fake-quantized weight and the inputs it was computed from."""

    weight: Tensor
    data: Tensor
    version: int
    amax: Tensor
    amax_version: int
    scheme: QuantScheme
    result: Tensor


_Form = TypeVar("_Form", bound=nn.Module)


def adopted(form: type[_Form], module: nn.Module) -> _Form:
    """Return an instance of ``form``, a subclass of the module's own class, that shares the attributes of ``module``.

    It takes over all attributes, including those that users set on the module; the dicts of parameters, buffers, submodules
    and hooks are copied so that what is registered on the new instance appears there alone.
    """
    made = form.__new__(form)
    made.__dict__ = {
        key: value.copy() if isinstance(value, dict | set) else value for key, value in vars(module).items()
    }
    return made


def replace_children(module: nn.Module, swapped: Mapping[nn.Module, nn.Module]) -> None:
    """Replace modules inside ``module``, and inside what replaces them, under all their names.

    Args:
        module: The model, changed in place.
        swapped: What replaces each module.
    """
    for parent in [*module.modules(), *swapped.values()]:
        for name, child in list(parent._modules.items()):  # named_children leaves out a second name
            if child is not None and child in swapped:
                setattr(parent, name, swapped[child])


class QuantMixin(nn.Module):
    """Base class of quantized layers: two quantizers, and a cache of the fake-quantized weight.

    Attributes:
        _input_quantizer: Quantizer of the layer's input.
        _weight_quantizer: Quantizer of the weight.
    """

    weight_axis: ClassVar[int] = 0
    """The axis of the weight that holds the output channels."""

    weight: Tensor
    _input_quantizer: TensorQuantizer
    _weight_quantizer: TensorQuantizer

    @classmethod
    def from_float(cls, module: nn.Module, *, activations: QuantScheme, weights: QuantScheme, name: str = "") -> Self:
        """Make a quantized layer that shares the parameters of ``module``.

        Args:
            module: A float layer of the class's own float type; it keeps working.
            activations: Scheme of the input.
            weights: Scheme of the weight; a per-channel axis is turned to where this layer has its output channels.
            name: Qualified name of the layer, for messages.
        """
        quantized = adopted(cls, module)
        quantized._init_quantizers(activations, weights, name)
        return quantized

    def _init_quantizers(self, activations: QuantScheme, weights: QuantScheme, name: str) -> None:
        if weights.axis is not None:
            weights = replace(weights, axis=self.weight_axis)
        self._input_quantizer = TensorQuantizer(activations, name=f"{name}._input_quantizer", calib_method="histogram")
        self._weight_quantizer = TensorQuantizer(weights, name=f"{name}._weight_quantizer")
        self._quantized_weight: _Quantized | None = None

    def calibrate_weight(self) -> None:
        """Set the weight's amax to its largest absolute value, per tensor or per channel as its scheme says."""
        self._weight_quantizer.amax = reduce_amax(self.weight, axis=self._weight_quantizer.scheme.axis)

    def quantized_weight(self) -> Tensor:
        """Return the fake-quantized weight, recomputed only when the weight or its amax changed."""
        quantizer, weight = self._weight_quantizer, self.weight
        amax = quantizer.amax
        idle = quantizer._disabled or not quantizer._if_quant or quantizer._placeholder is not None
        training = torch.is_grad_enabled() and weight.requires_grad
        if idle or training or amax is None or quantizer._if_calib or weight.is_inference() or amax.is_inference():
            result: Tensor = quantizer(weight)
            return result
        kept = self._quantized_weight
        if (
            kept is None
            or kept.weight is not weight
            or kept.data.data_ptr() != weight.data_ptr()  # `weight.data = ...` leaves the version as it was
            or kept.version != weight._version
            or kept.amax is not amax
            or kept.amax_version != amax._version
            or kept.scheme != quantizer.scheme
        ):
            with torch.inference_mode(False), torch.no_grad():  # to be kept for forwards that need gradients too
                result = quantizer(weight).detach()
                kept = _Quantized(
                    weight, weight.detach(), weight._version, amax, amax._version, quantizer.scheme, result
                )
            self._quantized_weight = kept
        return kept.result

    def __getstate__(self) -> dict[str, Any]:
        """Leave the cached weight out of copies and pickles."""
        return {**self.__dict__, "_quantized_weight": None}


class QuantConv2d(QuantMixin, nn.Conv2d):
    """2-D convolution with a fake-quantized input and weight."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of torch's own argument
        """Convolve; shapes as :class:`torch.nn.Conv2d`."""
        result: Tensor = self._conv_forward(self._input_quantizer(input), self.quantized_weight(), self.bias)
        return result


def conv_transpose(layer: Any, operation: Callable[..., Tensor], x: Tensor, output_size: list[int] | None) -> Tensor:
    """Run a quantized transposed convolution of any number of dimensions.

    Args:
        layer: A :class:`QuantMixin` that is also one of torch's transposed convolutions.
        operation: The function of ``torch.nn.functional`` for its number of dimensions.
        x: The layer's input.
        output_size: One of the possible output sizes, or None.
    """
    sizes = [list(size) for size in (layer.stride, layer.padding, layer.kernel_size)]
    padding = layer._output_padding(x, output_size, *sizes, len(layer.kernel_size), list(layer.dilation))
    return operation(
        layer._input_quantizer(x),
        layer.quantized_weight(),
        layer.bias,
        layer.stride,
        layer.padding,
        padding,
        layer.groups,
        layer.dilation,
    )


class QuantConvTranspose2d(QuantMixin, nn.ConvTranspose2d):
    """2-D transposed convolution with a fake-quantized input and weight."""

    weight_axis: ClassVar[int] = 1

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002
        """Convolve; shapes as :class:`torch.nn.ConvTranspose2d`."""
        return conv_transpose(self, F.conv_transpose2d, input, output_size)


class QuantLinear(QuantMixin, nn.Linear):
    """Linear layer with a fake-quantized input and weight."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Multiply; shapes as :class:`torch.nn.Linear`."""
        return F.linear(self._input_quantizer(input), self.quantized_weight(), self.bias)


QUANT_MODULES: tuple[tuple[type[nn.Module], type[QuantMixin]], ...] = (
    (nn.Conv2d, QuantConv2d),
    (nn.ConvTranspose2d, QuantConvTranspose2d),
    (nn.Linear, QuantLinear),
)
"""Float layer type to quantized layer type; only exact types are swapped, since a subclass may compute anything."""
