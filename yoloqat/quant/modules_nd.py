"""Quantized convolutions of one and three dimensions; detectors have none, so that swapping leaves such layers float."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from yoloqat.quant.modules import QuantMixin, conv_transpose


class QuantConv1d(QuantMixin, nn.Conv1d):
    """1-D convolution with a fake-quantized input and weight."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of torch's own argument
        """Convolve; shapes as :class:`torch.nn.Conv1d`."""
        result: Tensor = self._conv_forward(self._input_quantizer(input), self.quantized_weight(), self.bias)
        return result


class QuantConv3d(QuantMixin, nn.Conv3d):
    """3-D convolution with a fake-quantized input and weight."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Convolve; shapes as :class:`torch.nn.Conv3d`."""
        result: Tensor = self._conv_forward(self._input_quantizer(input), self.quantized_weight(), self.bias)
        return result


class QuantConvTranspose1d(QuantMixin, nn.ConvTranspose1d):
    """1-D transposed convolution with a fake-quantized input and weight."""

    weight_axis: ClassVar[int] = 1

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002
        """Convolve; shapes as :class:`torch.nn.ConvTranspose1d`."""
        return conv_transpose(self, F.conv_transpose1d, input, output_size)


class QuantConvTranspose3d(QuantMixin, nn.ConvTranspose3d):
    """3-D transposed convolution with a fake-quantized input and weight."""

    weight_axis: ClassVar[int] = 1

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002
        """Convolve; shapes as :class:`torch.nn.ConvTranspose3d`."""
        return conv_transpose(self, F.conv_transpose3d, input, output_size)
