"""Mixins of quantized layers: they make quantizers from descriptor arguments or from defaults on the class."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

from torch import nn

from yoloqat.compat.errors import ArgumentTypeError, ArgumentValueError
from yoloqat.compat.pytorch_quantization._state import DEFAULTS
from yoloqat.compat.pytorch_quantization.nn.modules.tensor_quantizer import TensorQuantizer
from yoloqat.compat.pytorch_quantization.tensor_quant import QUANT_DESC_8BIT_PER_TENSOR, QuantDescriptor

__all__ = ["QuantInputMixin", "QuantMixin", "pop_quant_desc_in_kwargs"]


class _InputQuantized:
    """Base of both mixins: the input quantizer."""

    default_quant_desc_input: ClassVar[QuantDescriptor] = QUANT_DESC_8BIT_PER_TENSOR

    _input_quantizer: TensorQuantizer

    @classmethod
    def set_default_quant_desc_input(cls, value: QuantDescriptor) -> None:
        """Set the default input descriptor of new layers of this class; it is copied.

        Raises:
            ArgumentValueError: ``value`` is no descriptor.
        """
        DEFAULTS.set(cls, "default_quant_desc_input", _copied(value))

    @property
    def input_quantizer(self) -> TensorQuantizer:
        """The quantizer of the input."""
        return self._input_quantizer

    def _quantizer(self, name: str, descriptor: QuantDescriptor) -> TensorQuantizer:
        if not descriptor.fake_quant:
            raise ArgumentValueError(
                f"fake_quant is {descriptor.fake_quant} for {name} of a {type(self).__name__}",
                expected="True in a layer",
                hint="leave fake_quant out",
            )
        quantizer = TensorQuantizer(descriptor)
        quantizer.name = quantizer.name or f"{type(self).__name__}.{name}"
        return quantizer


class QuantInputMixin(_InputQuantized):
    """Mixin for layers that quantize their input alone.

    Attributes:
        default_quant_desc_input: Descriptor of the input where a layer is made without one.
    """

    def init_quantizer(self, quant_desc_input: QuantDescriptor) -> None:
        """Give the layer its quantizer.

        Raises:
            ArgumentValueError: The descriptor asks for integers rather than fake-quantized values.
        """
        self._input_quantizer = self._quantizer("_input_quantizer", quant_desc_input)


class QuantMixin(_InputQuantized):
    """Mixin for layers that quantize their input and their weight.

    Attributes:
        default_quant_desc_input: Descriptor of the input where a layer is made without one.
        default_quant_desc_weight: Descriptor of the weight where a layer is made without one.
    """

    default_quant_desc_weight: ClassVar[QuantDescriptor] = QUANT_DESC_8BIT_PER_TENSOR

    _weight_quantizer: TensorQuantizer

    @classmethod
    def set_default_quant_desc_weight(cls, value: QuantDescriptor) -> None:
        """Set the default weight descriptor of new layers of this class; it is copied.

        Raises:
            ArgumentValueError: ``value`` is no descriptor.
        """
        DEFAULTS.set(cls, "default_quant_desc_weight", _copied(value))

    @property
    def weight_quantizer(self) -> TensorQuantizer:
        """The quantizer of the weight."""
        return self._weight_quantizer

    def init_quantizer(
        self, quant_desc_input: QuantDescriptor, quant_desc_weight: QuantDescriptor, num_layers: int | None = None
    ) -> None:
        """Give the layer its quantizers, or ``num_layers`` of each in ``_input_quantizers`` and ``_weight_quantizers``.

        Raises:
            ArgumentValueError: A descriptor asks for integers rather than fake-quantized values.
        """
        for name, descriptor in (("_input_quantizer", quant_desc_input), ("_weight_quantizer", quant_desc_weight)):
            if num_layers is None:
                setattr(self, name, self._quantizer(name, descriptor))
            else:
                several = [self._quantizer(name, descriptor) for _ in range(num_layers)]
                setattr(self, f"{name}s", nn.ModuleList(several))
        self._quantized_weight = None


def pop_quant_desc_in_kwargs(quant_cls: Any, input_only: bool = False, **kwargs: Any) -> Any:
    """Return the descriptors in ``kwargs``, or the defaults of ``quant_cls`` where they are missing.

    Args:
        quant_cls: A class with ``default_quant_desc_input`` and, unless ``input_only``, ``default_quant_desc_weight``.
        input_only: Return the input's descriptor alone.
        **kwargs: ``quant_desc_input``, ``quant_desc_weight``.

    Returns:
        The input's descriptor, or the input's and the weight's.

    Raises:
        ArgumentTypeError: There are other arguments.
    """
    names = ["quant_desc_input"] if input_only else ["quant_desc_input", "quant_desc_weight"]
    found = [kwargs.pop(name) if name in kwargs else getattr(quant_cls, f"default_{name}") for name in names]
    if kwargs:
        raise ArgumentTypeError(
            f"argument '{next(iter(kwargs))}' is unknown", expected=" or ".join(names), hint="leave it out"
        )
    return found[0] if input_only else tuple(found)


def _copied(value: Any) -> QuantDescriptor:
    if not isinstance(value, QuantDescriptor):
        raise ArgumentValueError(
            f"default is {value!r}", expected="a QuantDescriptor", hint="make one of your settings"
        )
    return copy.deepcopy(value)
