"""Ranges of quantizers that an optimizer moves."""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor, nn

from yoloqat.quant.swap import activation_quantizers, quantizers
from yoloqat.quant.tensor_quantizer import TensorQuantizer


def active_quantizers(module: nn.Module) -> list[tuple[str, TensorQuantizer]]:
    """Return the quantizers of ``module`` that are switched on, each once, with their qualified names."""
    return [
        (name, quantizer) for name, quantizer in quantizers(module) if not quantizer._disabled and quantizer._if_quant
    ]


class LearnedRanges:
    """Ranges that the optimizer moves, by their logarithms: a step scales a range and never takes it to 0.

    The gradient of amax is that of LSQ's step size (see :func:`yoloqat.quant.functional.fake_quant`); by the chain rule the
    logarithm has that times amax. Affine ranges keep their lower end; ranges of 0 are not learned.

    Args:
        module: A calibrated model; its ranges ask for gradients from here on.
        weights: Learn the ranges of weights too, not those of activations alone.
    """

    def __init__(self, module: nn.Module, *, weights: bool = True) -> None:
        self._ranges: list[tuple[str, Tensor]] = []
        activations = {name for name, _ in activation_quantizers(module)}
        for name, quantizer in active_quantizers(module):
            amax = quantizer.amax
            if not weights and name not in activations:
                continue
            if amax is not None and bool((amax > 0).all()):
                self._ranges.append((name, amax.requires_grad_(True)))
        self.parameters = [nn.Parameter(amax.detach().log()) for _, amax in self._ranges]

    def __len__(self) -> int:
        """Return how many ranges are learned."""
        return len(self._ranges)

    def pull_gradients(self) -> None:
        """Move the gradients of the ranges to their logarithms, averaged over processes that train together."""
        pairs = list(zip(self.parameters, self._ranges, strict=True))
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        for parameter, (_, amax) in pairs:
            if amax.grad is not None:
                parameter.grad = amax.grad * amax.detach()
                amax.grad = None
            elif together:  # in another process it may have one
                parameter.grad = torch.zeros_like(parameter)
        if together and pairs:  # ranges are buffers, which DistributedDataParallel leaves alone
            gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            torch.distributed.all_reduce(flat)
            flat /= torch.distributed.get_world_size()
            for gradient, part in zip(gradients, torch.split(flat, [one.numel() for one in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def push_values(self) -> None:
        """Set the ranges from their logarithms after a step of the optimizer."""
        with torch.no_grad():
            for parameter, (_, amax) in zip(self.parameters, self._ranges, strict=True):
                amax.copy_(parameter.exp())

    def state(self) -> dict[str, Tensor]:
        """Return the logarithms by the names of their quantizers: those of the rounded ranges would differ in the last digit."""
        return {name: parameter for parameter, (name, _) in zip(self.parameters, self._ranges, strict=True)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Set the logarithms from what :meth:`state` returned, and the ranges from them."""
        with torch.no_grad():
            for name, parameter in self.state().items():
                parameter.copy_(state[name])
        self.push_values()

    def release(self) -> None:
        """Stop asking for gradients."""
        for _, amax in self._ranges:
            amax.requires_grad_(False)
