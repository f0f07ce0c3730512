"""Conversion of torch's layers to quantized layers of this namespace."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from yoloqat.compat.pytorch_quantization.nn.modules._utils import (
    QuantInputMixin,
    QuantMixin,
    pop_quant_desc_in_kwargs,
)
from yoloqat.quant.functional import reduce_amax
from yoloqat.quant.modules import QuantMixin as CoreQuantMixin


def _split(kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the descriptors from the arguments of torch's own layer."""
    mine = {name: value for name, value in kwargs.items() if name in ("quant_desc_input", "quant_desc_weight")}
    return mine, {name: value for name, value in kwargs.items() if name not in mine}


class InputLayer(QuantInputMixin):
    """Mixin for torch's layers without weight: their arguments, and ``quant_desc_input``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        mine, its = _split(kwargs)
        super().__init__(*args, **its)
        self.init_quantizer(pop_quant_desc_in_kwargs(type(self), input_only=True, **mine))

    def forward(self, input: Tensor) -> Any:  # noqa: A002 - the name of torch's own argument
        """Quantize the input and run torch's layer."""
        return super().forward(self._input_quantizer(input))  # type: ignore[misc]


class WeightLayer(QuantMixin):
    """Mixin for the core's layers: arguments of torch's layer, ``quant_desc_input`` and ``quant_desc_weight``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        mine, its = _split(kwargs)
        super().__init__(*args, **its)
        self.init_quantizer(*pop_quant_desc_in_kwargs(type(self), **mine))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load also the state of NVIDIA's own class, which caches no quantized weight."""
        super().__setstate__({"_quantized_weight": None, **state})  # type: ignore[misc]

    def calibrate_weight(self) -> None:
        """Set the weight's amax to its largest absolute value per index of its axes."""
        weight, quantizer = self.weight, self._weight_quantizer  # type: ignore[attr-defined]
        quantizer.amax = reduce_amax(weight, axis=quantizer.axis)

    def quantized_weight(self) -> Tensor:
        """Return the weight as the layer uses it; an exporter must see the quantizer, not a cached result."""
        quantizer = self._weight_quantizer
        if getattr(quantizer, "native", False):
            exported: Tensor = quantizer(self.weight)  # type: ignore[attr-defined]
            return exported
        return CoreQuantMixin.quantized_weight(self)  # type: ignore[arg-type]
