"""Blocks of Ultralytics with quantizers on the inputs of their Adds (residual quantization) and matrix products.

Each is a subclass with a forward of its own, which computes with idle quantizers what the block computes, to the last bit.
An Add that follows a convolution is fused into it by an engine when its other input, the skip, is quantized; the skip uses the
scale of its tensor, which the block's first convolution reads too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloqat.config import QuantConfig
from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.quant import QuantBlock, residual_roles

_block = ultralytics_module("nn.modules.block")

PRODUCT_ROLES = ("query", "key", "weights", "value")
"""The factors of an attention's two matrix products, in the order in which they are read."""


class _Block(QuantBlock):
    """A block whose parts are those of its Ultralytics class."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Tell the type checker that the other base class has everything."""


class _OneAdd(_Block):
    """A block with one Add, which some of them leave out."""

    @classmethod
    def roles(cls, module: nn.Module, config: QuantConfig) -> tuple[str, ...]:
        """Return the roles of the Add's inputs; none where the block leaves the Add out."""
        return residual_roles(config, "") if getattr(module, "add", True) else ()


class _TwoAdds(_Block):
    """An attention block: an Add after the attention and one after the convolutions behind it."""

    @classmethod
    def roles(cls, module: nn.Module, config: QuantConfig) -> tuple[str, ...]:
        """Return the roles of the inputs of both Adds; none where the block leaves them out."""
        return residual_roles(config, "", "2") if getattr(module, "add", True) else ()


class QuantBottleneck(_OneAdd, _block.Bottleneck):  # type: ignore[misc, name-defined]
    """Two convolutions and a skip."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shaped like ``x``."""
        return self.residual_add(x, self.cv2(self.cv1(x)))


class QuantRepBottleneck(QuantBottleneck, _block.RepBottleneck):  # type: ignore[misc, name-defined]
    """A bottleneck whose first convolution was trained as several."""


class QuantCIB(_OneAdd, _block.CIB):  # type: ignore[misc, name-defined]
    """YOLOv10's compact inverted block: a sequence of pointwise and depthwise convolutions, and a skip."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shaped like ``x``."""
        return self.residual_add(x, self.cv1(x))


class QuantResidual(_OneAdd, _block.Residual):  # type: ignore[misc, name-defined]
    """A skip around any module."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shaped like ``x``."""
        return self.residual_add(x, self.m(x))


class QuantC1(_OneAdd, _block.C1):  # type: ignore[misc, name-defined]
    """A convolution, then others around which a skip leads."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        x = self.cv1(x)
        branch = self.m(x)
        return self.quantized("branch", branch) + self.quantized("residual", x)


class QuantGhostBottleneck(_OneAdd, _block.GhostBottleneck):  # type: ignore[misc, name-defined]
    """Ghost convolutions and a skip, which is a convolution where the stride is 2."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        branch = self.conv(x)
        return self.quantized("branch", branch) + self.quantized("residual", self.shortcut(x))


class QuantResNetBlock(_OneAdd, _block.ResNetBlock):  # type: ignore[misc, name-defined]
    """ResNet's bottleneck: the skip, a convolution where the shape changes, is added before the activation."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        branch = self.cv3(self.cv2(self.cv1(x)))
        return F.relu(self.quantized("branch", branch) + self.quantized("residual", self.shortcut(x)))


class QuantSPPF(_OneAdd, _block.SPPF):  # type: ignore[misc, name-defined]
    """Repeated maximum pools, concatenated, with YOLO26's skip around them."""

    @classmethod
    def roles(cls, module: nn.Module, config: QuantConfig) -> tuple[str, ...]:
        """Return the roles of the Add's inputs; none where the block leaves the Add out, as all before YOLO26 do."""
        return residual_roles(config, "") if getattr(module, "add", False) else ()

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shaped like ``x``."""
        pooled = [self.cv1(x)]
        while len(pooled) <= getattr(self, "n", 3):
            pooled.append(self.m(pooled[-1]))
        branch = self.cv2(torch.cat(pooled, 1))
        return self.quantized("branch", branch) + self.quantized("residual", x)


class QuantHGBlock(_OneAdd, _block.HGBlock):  # type: ignore[misc, name-defined]
    """PP-HGNet's block: a chain of convolutions, all outputs concatenated, and a skip."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shaped like ``x``."""
        chain = [x]
        for layer in self.m:
            chain.append(layer(chain[-1]))
        branch = self.ec(self.sc(torch.cat(chain, 1)))
        return self.quantized("branch", branch) + self.quantized("residual", x)


class QuantPSABlock(_TwoAdds, _block.PSABlock):  # type: ignore[misc, name-defined]
    """Attention and feed-forward convolutions, each with a skip."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shaped like ``x``."""
        x = self.residual_add(x, self.attn(x))
        return self.residual_add(x, self.ffn(x), "2")


class QuantABlock(_TwoAdds, _block.ABlock):  # type: ignore[misc, name-defined]
    """YOLO12's area attention and feed-forward convolutions, each with a skip."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shaped like ``x``."""
        x = self.residual_add(x, self.attn(x))
        return self.residual_add(x, self.mlp(x), "2")


class QuantPSA(_TwoAdds, _block.PSA):  # type: ignore[misc, name-defined]
    """YOLOv10's partial self-attention: one half of the channels goes through it, the other past it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shaped like ``x``."""
        past, x = self.cv1(x).split((self.c, self.c), dim=1)
        x = self.residual_add(x, self.attn(x))
        x = self.residual_add(x, self.ffn(x), "2")
        return self.cv2(torch.cat((past, x), 1))  # type: ignore[no-any-return]


class QuantA2C2f(_OneAdd, _block.A2C2f):  # type: ignore[misc, name-defined]
    """YOLO12's chain of area-attention blocks, with a scaled skip in the larger models."""

    @classmethod
    def roles(cls, module: nn.Module, config: QuantConfig) -> tuple[str, ...]:
        """Return the roles of the Add's inputs; none where the block leaves the Add out."""
        return () if getattr(module, "gamma", None) is None else residual_roles(config, "")

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        chain = [self.cv1(x)]
        for block in self.m:
            chain.append(block(chain[-1]))
        branch = self.cv2(torch.cat(chain, 1))
        return self.residual_add(x, self.gamma.view(-1, self.gamma.shape[0], 1, 1) * branch)


class _Products(_Block):
    """An attention whose matrix products read quantized factors."""

    @classmethod
    def roles(cls, module: nn.Module, config: QuantConfig) -> tuple[str, ...]:
        """Return the factors of both products, or nothing where the configuration leaves attention float."""
        del module
        return PRODUCT_ROLES if config.attention else ()

    def attended(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return the values weighed by attention.

        Args:
            query: Scaled queries, (batch, heads, channels, positions).
            key: Keys, shaped like ``query``.
            value: Values, (batch, heads, value channels, positions).
        """
        scores = self.quantized("query", query).transpose(-2, -1) @ self.quantized("key", key)
        weights = self.quantized("weights", scores.softmax(dim=-1))
        return self.quantized("value", value) @ weights.transpose(-2, -1)


class QuantAttention(_Products, _block.Attention):  # type: ignore[misc, name-defined]
    """Multi-head attention with a positional encoding by a depthwise convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shaped like ``x``."""
        batch, channels, height, width = x.shape
        heads = self.qkv(x).view(batch, self.num_heads, 2 * self.key_dim + self.head_dim, height * width)
        query, key, value = heads.split([self.key_dim, self.key_dim, self.head_dim], dim=2)
        seen = self.attended(query * self.scale, key, value).view(batch, channels, height, width)
        return self.proj(seen + self.pe(value.reshape(batch, channels, height, width)))  # type: ignore[no-any-return]


class QuantAAttn(_Products, _block.AAttn):  # type: ignore[misc, name-defined]
    """YOLO12's attention within areas of the image."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shaped like ``x``."""
        batch, _, height, width = x.shape
        channels = self.all_head_dim
        areas, positions = batch * self.area, height * width // self.area
        rows = self.qkv(x).flatten(2).transpose(1, 2).reshape(areas, positions, 3 * channels)
        heads = rows.view(areas, positions, self.num_heads, 3 * self.head_dim).permute(0, 2, 3, 1)
        query, key, value = heads.split([self.head_dim] * 3, dim=2)
        seen = self.attended(query * self.head_dim**-0.5, key, value)

        def image(tensor: Tensor) -> Tensor:
            flat: Tensor = tensor.permute(0, 3, 1, 2).reshape(batch, height, width, channels)
            return flat.permute(0, 3, 1, 2).contiguous()

        value = image(value)
        return self.proj(image(seen) + self.pe(value))  # type: ignore[no-any-return]


_NAMES = {
    "A2C2f": QuantA2C2f,
    "AAttn": QuantAAttn,
    "ABlock": QuantABlock,
    "Attention": QuantAttention,
    "Bottleneck": QuantBottleneck,
    "C1": QuantC1,
    "CIB": QuantCIB,
    "GhostBottleneck": QuantGhostBottleneck,
    "HGBlock": QuantHGBlock,
    "PSA": QuantPSA,
    "PSABlock": QuantPSABlock,
    "RepBottleneck": QuantRepBottleneck,
    "Residual": QuantResidual,
    "ResNetBlock": QuantResNetBlock,
    "SPPF": QuantSPPF,
}

FORMS: dict[type[nn.Module], type[QuantBlock]] = {getattr(_block, name): form for name, form in _NAMES.items()}
"""Ultralytics block type to quantized block type."""
