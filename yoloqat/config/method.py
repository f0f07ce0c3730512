"""The name of a calibration method with its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yoloqat.errors import ConfigError

PER_LAYER = "per-layer"
"""The method that takes, for every quantizer, the one of all methods that harms the outputs of its layers least."""

KINDS = ("max", "entropy", "mse", "percentile", PER_LAYER)


@dataclass(frozen=True, order=True)
class MethodSpec:
    """One way to turn collected statistics into amax.

    Attributes:
        kind: ``"max"``, ``"entropy"``, ``"mse"``, ``"percentile"`` or ``"per-layer"``.
        percentile: Share of absolute values that amax covers, in percent; only with ``"percentile"``.

    Raises:
        ConfigError: The kind is unknown, or the percentile is missing, superfluous or outside (0, 100].
    """

    kind: str
    percentile: float | None = None

    def __post_init__(self) -> None:
        """Check the kind and its parameter."""
        if self.kind not in KINDS:
            raise ConfigError(
                f"calibration method is {self.kind!r}",
                expected=f"one of {', '.join(KINDS)}, percentile-99.9",
                hint="choose one of them",
            )
        if (self.percentile is not None) != (self.kind == "percentile"):
            raise ConfigError(
                f"percentile is {self.percentile!r} with method {self.kind!r}",
                expected="a percentile with method 'percentile' and with no other",
                hint="write e.g. percentile-99.99",
            )
        number = isinstance(self.percentile, int | float) and not isinstance(self.percentile, bool)
        if self.percentile is not None and not (number and 0.0 < self.percentile <= 100.0):
            raise ConfigError(
                f"percentile is {self.percentile!r}",
                expected="a number above 0 and at most 100",
                hint="write e.g. 99.99",
            )

    @classmethod
    def parse(cls, text: str) -> MethodSpec:
        """Read ``max``, ``entropy``, ``mse``, ``percentile`` (99.99), ``percentile-99.9`` or ``per-layer``.

        Raises:
            ConfigError: The text names no method.
        """
        kind, separator, number = text.strip().lower().partition("-")
        if kind != "percentile":
            return cls(text.strip().lower())
        try:
            return cls(kind, float(number) if separator else 99.99)
        except ValueError as error:
            raise ConfigError(
                f"percentile is {number!r}",
                expected="a number above 0 and at most 100",
                hint="write e.g. percentile-99.99",
            ) from error

    @property
    def params(self) -> dict[str, Any]:
        """The parameters beside the kind, as a JSON-able dict."""
        return {} if self.percentile is None else {"percentile": self.percentile}

    def __str__(self) -> str:
        """Return the text that :meth:`parse` reads."""
        # all digits: 99.99999 must not become 100
        return self.kind if self.percentile is None else f"{self.kind}-{float(self.percentile)!r}".removesuffix(".0")


DEFAULT_METHODS = (
    MethodSpec("max"),
    MethodSpec("entropy"),
    MethodSpec("mse"),
    MethodSpec("percentile", 99.9),
    MethodSpec("percentile", 99.99),
    MethodSpec("percentile", 99.999),
    MethodSpec(PER_LAYER),
)
"""What `compare` compares when nobody says otherwise."""
