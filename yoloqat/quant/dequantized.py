"""Float convolutions that read dequantized values, so that what makes their input can write integers for all its readers."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor, nn

from yoloqat.config import QuantConfig
from yoloqat.errors import ModelError
from yoloqat.quant.blocks import QuantBlock
from yoloqat.quant.modules import replace_children

ROLE = "dequantized"
_SUFFIX = f"._{ROLE}_quantizer"


class DequantizedConv2d(QuantBlock, nn.Conv2d):
    """2-D convolution with a fake-quantized input and a float weight."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of torch's own argument
        """Convolve; shapes as :class:`torch.nn.Conv2d`."""
        result: Tensor = self._conv_forward(self.quantized(ROLE, input), self.weight, self.bias)
        return result


def dequantizable(layer: nn.Module) -> bool:
    """Return whether a float layer has a form that reads dequantized values."""
    return type(layer) is nn.Conv2d


def swap_dequantized(module: nn.Module, names: Collection[str], config: QuantConfig) -> None:
    """Replace float convolutions inside ``module`` by such that read dequantized values and share their parameters.

    Args:
        module: The model, changed in place.
        names: Qualified names of convolutions for which :func:`dequantizable` holds.
        config: Gives the scheme of activations.

    Raises:
        ModelError: A name is not that of such a convolution.
    """
    modules = dict(module.named_modules(remove_duplicate=False))
    swapped: dict[nn.Module, nn.Module] = {}
    for name in names:
        layer = modules.get(name)
        if layer is None or not dequantizable(layer):
            raise ModelError(
                f"layer '{name}' is {'missing' if layer is None else type(layer).__name__}",
                expected="Conv2d, which can read dequantized values",
                hint="calibrate the float model again",
            )
        form = DequantizedConv2d.from_float(layer, activations=config.activations, roles=(ROLE,), name=name)
        swapped[layer] = form
    replace_children(module, swapped)


def dequantized_layers(locations: Collection[str]) -> list[str]:
    """Return the names of the layers among quantizer locations that read dequantized values."""
    return [location.removesuffix(_SUFFIX) for location in locations if location.endswith(_SUFFIX)]
