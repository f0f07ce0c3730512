"""Which layers are quantized, and how."""

from __future__ import annotations

from dataclasses import dataclass, field

from yoloqat.config.checks import check_bool
from yoloqat.config.scheme import QuantScheme
from yoloqat.errors import ConfigError

ADDS = ("residual", "both", "none")
"""Which inputs of an Add are quantized: the skip alone, skip and branch, or neither."""

MERGES = ("graph", "block", "tensor")
"""How far one scale reaches: through concats, pools and reshapes of the whole graph, of one block, or not at all."""


@dataclass(frozen=True)
class QuantConfig:
    """Which layers are quantized, and how.

    Attributes:
        activations: Scheme of layer inputs; symmetric per tensor is what TensorRT takes.
        weights: Scheme of weights, per output channel by default. The axis is that of a convolution or linear layer;
            transposed convolutions, whose output channels are axis 1, are turned accordingly.
        ignore: Patterns of layers to leave float: exact names, globs, or regular expressions as ``re:PATTERN``.
        quantize_head: Quantize also what the detector family keeps float by default (DFL, last 1x1 of the head).
        adds: Which inputs of a residual Add are quantized, one of :data:`ADDS`.
        merge: How far tensors share a scale, one of :data:`MERGES`; layers that read one tensor share its scale always.
        unmerge: Patterns, as in ``ignore``, of the readers of tensors that get a scale of their own nevertheless.
        attention: Quantize the inputs of the matrix products of attention blocks.
        depthwise: Quantize depthwise convolutions.

    Raises:
        ConfigError: The patterns are no tuple of texts, a recipe is unknown, the activation scheme is per channel or the
            weight scheme affine, which no engine takes, or unsigned, which has no negative weights.
    """

    activations: QuantScheme = field(default_factory=QuantScheme)
    weights: QuantScheme = field(default_factory=lambda: QuantScheme(axis=0, narrow_range=True))
    ignore: tuple[str, ...] = ()
    quantize_head: bool = False
    adds: str = "residual"
    merge: str = "graph"
    unmerge: tuple[str, ...] = ()
    attention: bool = False
    depthwise: bool = False

    def __post_init__(self) -> None:
        """Check the patterns, the recipes and the schemes."""
        _check_patterns("ignore", self.ignore)
        _check_patterns("unmerge", self.unmerge)
        for name, value, known in (("adds", self.adds, ADDS), ("merge", self.merge, MERGES)):
            if value not in known:
                raise ConfigError(f"{name} is {value!r}", expected=f"one of {', '.join(known)}", hint="choose one")
        if self.activations.axis is not None:
            raise ConfigError(
                f"activation axis is {self.activations.axis}",
                expected="one scale per activation tensor",
                hint="leave the axis out",
            )
        if not self.weights.symmetric or self.weights.unsigned:
            raise ConfigError(
                f"weights are {self.weights}",
                expected="a symmetric and signed scheme",
                hint="use symmetric=True and unsigned=False for weights",
            )
        for name in ("quantize_head", "attention", "depthwise"):
            check_bool(name, getattr(self, name))


def _check_patterns(name: str, patterns: object) -> None:
    if not isinstance(patterns, tuple):
        raise ConfigError(
            f"{name} is {patterns!r}", expected="a tuple of patterns", hint="write even a single one as a tuple"
        )
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern:
            raise ConfigError(
                f"{name} pattern is {pattern!r}", expected="a name, a glob or re:PATTERN", hint="write it as text"
            )
