"""Which layers are quantized, and how."""

from __future__ import annotations

from dataclasses import dataclass, field

from yoloqat.config.checks import check_bool
from yoloqat.config.scheme import QuantScheme
from yoloqat.errors import ConfigError


@dataclass(frozen=True)
class QuantConfig:
    """Which layers are quantized, and how.

    Attributes:
        activations: Scheme of layer inputs; symmetric per tensor is what TensorRT takes.
        weights: Scheme of weights, per output channel by default. The axis is that of a convolution or linear layer;
            transposed convolutions, whose output channels are axis 1, are turned accordingly.
        ignore: Patterns of layers to leave float: exact names, globs, or regular expressions as ``re:PATTERN``.
        quantize_head: Quantize also what the detector family keeps float by default (DFL, last 1x1 of the head).

    Raises:
        ConfigError: The patterns are no tuple of texts, the activation scheme is per channel or the weight scheme affine,
            which no engine takes, or unsigned, which has no negative weights.
    """

    activations: QuantScheme = field(default_factory=QuantScheme)
    weights: QuantScheme = field(default_factory=lambda: QuantScheme(axis=0, narrow_range=True))
    ignore: tuple[str, ...] = ()
    quantize_head: bool = False

    def __post_init__(self) -> None:
        """Check the patterns and the schemes."""
        if not isinstance(self.ignore, tuple):
            raise ConfigError(
                f"ignore is {self.ignore!r}", expected="a tuple of patterns", mend="write even a single one as a tuple"
            )
        for pattern in self.ignore:
            if not isinstance(pattern, str) or not pattern:
                raise ConfigError(
                    f"ignore pattern is {pattern!r}", expected="a name, a glob or re:PATTERN", mend="write it as text"
                )
        if self.activations.axis is not None:
            raise ConfigError(
                f"activation axis is {self.activations.axis}",
                expected="one scale per activation tensor",
                mend="leave the axis out",
            )
        if not self.weights.symmetric or self.weights.unsigned:
            raise ConfigError(
                f"weights are {self.weights}",
                expected="a symmetric and signed scheme",
                mend="use symmetric=True and unsigned=False for weights",
            )
        check_bool("quantize_head", self.quantize_head)
