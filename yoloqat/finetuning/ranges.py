"""The ranges of quantizers while the model trains, watched at every step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yoloqat.errors import CalibrationError
from yoloqat.quant import TensorQuantizer
from yoloqat.quant.learned_ranges import active_quantizers


def check_calibrated(module: nn.Module) -> None:
    """Check that every quantizer that is switched on has a range.

    Raises:
        CalibrationError: One has none.
    """
    for name, quantizer in active_quantizers(module):
        if quantizer.amax is None:
            raise CalibrationError(
                f"quantizer '{name}' has no amax",
                expected="a calibrated model",
                hint="calibrate it first with `yoloqat calibrate`",
            )


class RangeGuard:
    """Checks that no scale becomes NaN, infinite, zero or negative.

    A range that is 0 from the start, of a tensor that was all zeros while it was calibrated, may stay so.

    Args:
        module: A calibrated model, on the device it trains on.
    """

    def __init__(self, module: nn.Module) -> None:
        self._quantizers = [
            (name, quantizer) for name, quantizer in active_quantizers(module) if quantizer.amax is not None
        ]
        self._dead = [self._amax(quantizer) == 0 for _, quantizer in self._quantizers]
        self._all_dead = torch.cat([dead.flatten() for dead in self._dead]) if self._dead else torch.empty(0)

    @staticmethod
    def _amax(quantizer: TensorQuantizer) -> Tensor:
        assert quantizer.amax is not None  # noqa: S101 - those without a range are left out above
        return quantizer.amax.detach()

    def check(self) -> None:
        """Check every range.

        Raises:
            CalibrationError: One is not finite or not above 0; its name is in the message.
        """
        if not self._quantizers:
            return
        ranges = torch.cat([self._amax(quantizer).flatten() for _, quantizer in self._quantizers])
        if bool((torch.isfinite(ranges) & ((ranges > 0) | (self._all_dead & (ranges == 0)))).all()):
            return
        for (name, quantizer), dead in zip(self._quantizers, self._dead, strict=True):
            amax = self._amax(quantizer)
            bad = ~(torch.isfinite(amax) & ((amax > 0) | (dead & (amax == 0))))
            if bool(bad.any()):
                raise CalibrationError(
                    f"amax of '{name}' became {float(amax[bad].flatten()[0])}",
                    expected="a finite number above 0",
                    hint="take the last good checkpoint and lower the learning rate",
                )
