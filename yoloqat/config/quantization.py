"""Which layers are quantized, and how."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from yoloqat.config.checks import check_bool
from yoloqat.config.scheme import QuantScheme
from yoloqat.config.target import ADDS, MERGES, UNNAMED, Target, target_named
from yoloqat.errors import ConfigError

_OPEN = QuantScheme()
"""Stands for the scheme of activations where none was given: the target's."""


@dataclass(frozen=True)
class QuantConfig:
    """Which layers are quantized, and how.

    What a target decides need not be given, and must not be given otherwise.

    Attributes:
        activations: Scheme of layer inputs, per tensor; by default the target's at 8 bits, symmetric without a target.
        weights: Scheme of weights, per output channel by default. The axis is that of a convolution or linear layer;
            transposed convolutions, whose output channels are axis 1, are turned accordingly.
        ignore: Patterns of layers to leave float: exact names, globs, or regular expressions as ``re:PATTERN``.
        quantize_head: Quantize also what the detector family keeps float by default (DFL, last 1x1 of the head).
        adds: Which inputs of a residual Add are quantized, one of :data:`ADDS`.
        merge: How far tensors share a scale, one of :data:`MERGES`; layers that read one tensor share its scale always.
        unmerge: Patterns, as in ``ignore``, of the readers of tensors that get a scale of their own nevertheless.
        attention: Quantize the inputs of the matrix products of attention blocks.
        depthwise: Quantize depthwise convolutions: all, none, or with None those whose input a quantized layer reads too, so that
            what makes it need not write float for them.
        target: The engine that will run the model, a name of :data:`yoloqat.config.target.TARGETS`; None decides as for
            TensorRT and binds to no engine.

    Raises:
        ConfigError: The patterns are no tuple of texts, a recipe or the target is unknown, the activation scheme is per
            channel or the weight scheme affine, which no engine takes, or unsigned, which has no negative weights; or a value
            is another than the target decides.
    """

    activations: QuantScheme = _OPEN
    weights: QuantScheme = field(default_factory=lambda: QuantScheme(axis=0, narrow_range=True))
    ignore: tuple[str, ...] = ()
    quantize_head: bool = False
    adds: str = UNNAMED.adds
    merge: str = UNNAMED.merge
    unmerge: tuple[str, ...] = ()
    attention: bool = False
    depthwise: bool | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        """Take what the target decides, and check the patterns, the recipes and the schemes."""
        decided = target_named(self.target)
        if self.activations is _OPEN:
            object.__setattr__(self, "activations", QuantScheme(symmetric=decided.symmetric))
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
        for name in ("quantize_head", "attention", *(() if self.depthwise is None else ("depthwise",))):
            check_bool(name, getattr(self, name))
        if self.target is not None:
            self._check_decided(decided)

    def _check_decided(self, target: Target) -> None:
        per = ("per tensor", "per channel")
        for name, value, wanted in (
            ("activations", "symmetric" if self.activations.symmetric else "affine", target.scheme),
            ("weights", per[self.weights.axis is not None], per[True]),
            ("adds", self.adds, target.adds),
            ("merge", self.merge, target.merge),
        ):
            if value != wanted:
                raise ConfigError(
                    f"{name} {'is' if name in ('adds', 'merge') else 'are'} {value} with target '{target.name}'",
                    expected=f"{wanted}, as {target.title}'s INT8 kernels want it",
                    hint=f"leave `target` or `{name}` out",
                )

    def for_target(self, target: str | None) -> QuantConfig:
        """Return the same layers at the same bits, with what another target decides.

        Args:
            target: Its name, or None.

        Raises:
            ConfigError: There is no such target, or it wants no weights of one scale per tensor.
        """
        decided = target_named(target)
        activations = replace(self.activations, symmetric=decided.symmetric)
        return replace(self, target=target, activations=activations, adds=decided.adds, merge=decided.merge)


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
