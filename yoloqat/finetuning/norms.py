"""Batch-norms kept through the training: a convolution holds its raw weight again, and the norm that was folded into it follows.

With s = gamma / sqrt(variance + eps) per output channel, the raw weight is the folded one divided by s and its range the folded
one divided by the absolute value of s, so that fake quantization gives the same integers before the norm as after folding (as in
Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", arXiv:1806.08342, with statistics frozen from
the start). All weights come from the checkpoint; the float model gives the statistics and the scale alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloqat.errors import ConfigError, ModelError
from yoloqat.quant import QuantConv2d
from yoloqat.quant.fused import AMAX_EPSILON
from yoloqat.quant.modules import QuantMixin, adopted

LEAST_SCALE = 1e-6
"""Channels whose gamma / sigma is nearer to 0 stay folded: a weight cannot be divided by (nearly) nothing."""


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """A batch-norm by its stored statistics, while training too; its scale and shift are parameters as any other."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of torch's own argument
        """Normalise; shapes as :class:`torch.nn.BatchNorm2d`."""
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

    def scale(self) -> Tensor:
        """Return what each channel is multiplied by, gamma / sigma, float64, shape (channels,)."""
        assert self.running_var is not None  # noqa: S101 - made with statistics
        return self.weight.detach().double() / (self.running_var.double() + self.eps).sqrt()

    def shift(self) -> Tensor:
        """Return what is added to each channel after that, float64, shape (channels,)."""
        assert self.running_mean is not None  # noqa: S101 - made with statistics
        return self.bias.detach().double() - self.running_mean.double() * self.scale()


class NormedConv2d(nn.Conv2d):
    """A convolution without bias and the norm that follows it."""

    norm: FrozenBatchNorm2d

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Convolve and normalise; shapes as :class:`torch.nn.Conv2d`."""
        result: Tensor = self.norm(super().forward(input))
        return result


class NormedQuantConv2d(QuantConv2d):
    """A convolution with fake-quantized input and raw weight, and the norm that follows it."""

    norm: FrozenBatchNorm2d

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Convolve and normalise; shapes as :class:`torch.nn.Conv2d`."""
        result: Tensor = self.norm(super().forward(input))
        return result


_Normed = NormedConv2d | NormedQuantConv2d
_FORMS: dict[type[nn.Module], type[_Normed]] = {nn.Conv2d: NormedConv2d, QuantConv2d: NormedQuantConv2d}
_PLAIN: dict[type[nn.Module], type[nn.Conv2d]] = {NormedConv2d: nn.Conv2d, NormedQuantConv2d: QuantConv2d}
_Layer = TypeVar("_Layer", bound=nn.Conv2d)


def foldable(module: nn.Module, norms: Mapping[str, nn.BatchNorm2d]) -> dict[str, nn.Conv2d]:
    """Return the convolutions of a folded module that a norm can follow again, by name.

    Those that several branches were merged into, as RepConv's, have no norm of their own under their name and are left out.

    Args:
        module: A detector's module, batch-norms folded.
        norms: The batch-norms of its float model by the name of the convolution before each.

    Raises:
        ModelError: There is none.
        ConfigError: A weight's quantizer has another scheme than a symmetric one per output channel.
    """
    layers = {
        name: child
        for name, child in module.named_modules()
        if type(child) in _FORMS and isinstance(child, nn.Conv2d) and _fits(child, norms.get(name))
    }
    if not layers:
        raise ModelError(
            f"none of the {len(norms)} batch-norms of the float model follows a convolution of this checkpoint",
            expected="a float model whose batch-norms are not folded yet",
            hint="leave `keep_bn` out",
        )
    for name, layer in layers.items():
        if isinstance(layer, QuantMixin):
            scheme = layer._weight_quantizer.scheme
            if scheme.axis != layer.weight_axis or scheme.low != -scheme.high:
                found = (
                    "one scale for all channels"
                    if scheme.axis is None
                    else f"integers from {scheme.low} to {scheme.high}"
                )
                raise ConfigError(
                    f"the weight of '{name}' has {found}",
                    expected="a scale per output channel with integers that are symmetric about 0, to keep batch-norms",
                    hint="calibrate one weight scale per channel, or leave `keep_bn` out",
                )
    return layers


def _fits(layer: nn.Conv2d, norm: nn.BatchNorm2d | None) -> bool:
    known = norm is not None and norm.affine and norm.track_running_stats
    return norm is not None and known and norm.num_features == layer.out_channels


def unfold(module: nn.Module, norms: Mapping[str, nn.BatchNorm2d]) -> list[str]:
    """Take the batch-norms of a calibrated module apart from its convolutions, in place.

    Its outputs stay the same up to rounding. The convolutions take the names of their plain forms; the norm of ``NAME`` is
    ``NAME.norm``. A channel whose scale is (nearly) 0 stays folded: its norm is neutral, but for the bias.

    Args:
        module: A detector's module, batch-norms folded; its weights and ranges are those that are taken apart.
        norms: The batch-norms of its float model by the name of the convolution before each.

    Returns:
        The names of the convolutions that a norm follows now.

    Raises:
        ModelError: As :func:`foldable`.
        ConfigError: As :func:`foldable`.
    """
    layers = foldable(module, norms)
    _replace(module, {layer: _unfolded(layer, norms[name]) for name, layer in layers.items()})
    return list(layers)


def fold(module: nn.Module) -> None:
    """Fold the norms that :func:`unfold` took apart into their convolutions again, in place; ranges of weights are rescaled.

    The outputs stay the same up to rounding. A module without such norms is left as it is.
    """
    normed = [child for child in module.modules() if isinstance(child, NormedConv2d | NormedQuantConv2d)]
    _replace(module, {layer: _folded(layer) for layer in normed})


def _unfolded(layer: nn.Conv2d, source: nn.BatchNorm2d) -> nn.Module:
    device = layer.weight.device
    norm = FrozenBatchNorm2d(source.num_features, eps=source.eps, device=device).eval()
    norm.load_state_dict(source.state_dict())
    assert norm.running_mean is not None and norm.running_var is not None  # noqa: S101, PT018
    with torch.no_grad():
        lost = norm.scale().abs() < LEAST_SCALE
        amax = layer._weight_quantizer.amax if isinstance(layer, QuantMixin) else None
        if amax is not None:
            lost |= amax.flatten() <= AMAX_EPSILON  # fake quantization gives 0 there, whatever the weight is
        norm.weight.masked_fill_(lost, 1.0)
        norm.running_var.masked_fill_(lost, 1.0 - norm.eps)
        norm.running_mean.masked_fill_(lost, 0.0)
        scale = norm.scale()
        bias = torch.zeros_like(scale) if layer.bias is None else layer.bias.detach().double()
        norm.bias.copy_(bias + norm.running_mean.double() * scale)
    made = _rescaled(_FORMS[type(layer)], layer, 1.0 / scale)
    made._parameters["bias"] = None
    made.norm = norm
    return made


def _folded(layer: _Normed) -> nn.Module:
    made = _rescaled(_PLAIN[type(layer)], layer, layer.norm.scale())
    made._parameters["bias"] = nn.Parameter(layer.norm.shift().float(), requires_grad=layer.weight.requires_grad)
    del made._modules["norm"]
    return made


def _rescaled(form: type[_Layer], layer: nn.Conv2d, factor: Tensor) -> _Layer:
    """Return the layer in another form, each output channel of its weight multiplied by a factor, and its range too."""
    made = adopted(form, layer)
    factor = factor.reshape(-1, 1, 1, 1)
    weight = (layer.weight.detach().double() * factor).float()
    made.weight = nn.Parameter(weight, requires_grad=layer.weight.requires_grad)
    if isinstance(layer, QuantMixin):
        quantizer = layer._weight_quantizer
        if quantizer.amax is not None:
            quantizer.amax = (quantizer.amax.detach().double() * factor.abs()).float()
    return made


def _replace(module: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                parent._modules[name] = replacements[child]
