"""Blocks of the anchor-based families with residual quantization: quantizers on the inputs of their Adds.

Each computes with idle quantizers what the block computes, to the last bit. An Add that follows a convolution is fused into
it by an engine when its other input, the skip, is quantized.
"""

from __future__ import annotations

from torch import Tensor, nn

from yoloqat.config import QuantConfig
from yoloqat.detectors.anchor.blocks import Bottleneck
from yoloqat.detectors.anchor.layers import Shortcut
from yoloqat.quant import QuantBlock, residual_roles


class QuantBottleneck(QuantBlock, Bottleneck):
    """Two convolutions and a skip."""

    @classmethod
    def roles(cls, module: nn.Module, config: QuantConfig) -> tuple[str, ...]:
        """Return the roles of the Add's inputs; none where the block leaves the Add out."""
        return residual_roles(config, "") if getattr(module, "add", False) else ()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shaped like ``x``."""
        return self.residual_add(x, self.cv2(self.cv1(x)))


class QuantShortcut(QuantBlock, Shortcut):
    """The sum of two layers, of which the earlier is the skip."""

    @classmethod
    def roles(cls, module: nn.Module, config: QuantConfig) -> tuple[str, ...]:
        """Return the roles of the Add's inputs."""
        del module
        return residual_roles(config, "")

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Return the sum."""
        branch, skip = inputs  # the description lists the latest layer first
        return self.quantized("branch", branch) + self.quantized("residual", skip)


FORMS: dict[type[nn.Module], type[QuantBlock]] = {Bottleneck: QuantBottleneck, Shortcut: QuantShortcut}
"""Float block type to quantized block type."""
