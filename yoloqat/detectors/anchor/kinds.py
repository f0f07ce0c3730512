"""The layers that a model YAML may name: their construction, channels, size and quantized parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from yoloqat.detectors.anchor import blocks, layers
from yoloqat.detectors.anchor.activations import is_activation
from yoloqat.detectors.architecture import Vocabulary

FAMILIES = ("yolov5", "yolov7")

Settings = dict[str, Any]
"""Keyword arguments of a layer's class."""

ALL = "every convolution"
NONE = "has no convolution"
PREDICTIONS = "gives the predictions"
"""Why the head's last convolutions stay float: their outputs are scores and box sizes, not features that follow others."""


@dataclass(frozen=True)
class Kind:
    """One kind of layer.

    Attributes:
        make: Its class. Called with input and output channels where it has convolutions, then with its settings.
        settings: Meaning of its YAML arguments, in order; for a layer with convolutions, those after the output channels.
        quantized: Parts that are quantized by default.
        convolutional: It has convolutions: its first YAML argument is its output channels, and it has an activation.
        repeats: The setting that takes the number of repeats; without one, repeats are layers one behind the other.
        channels: Output channels from those of the inputs, of a layer without convolutions.
        factor: Divisor of height and width, from its settings.
    """

    make: Callable[..., nn.Module]
    settings: tuple[str, ...] = ()
    quantized: str = ALL
    convolutional: bool = True
    repeats: str | None = None
    channels: Callable[[Sequence[int]], int] = field(default=lambda inputs: inputs[0])
    factor: Callable[[Mapping[str, Any]], float] = field(default=lambda _settings: 1)


def _stride(settings: Mapping[str, Any]) -> float:
    return float(settings.get("stride", 1))


def _upsample(*, size: None = None, scale_factor: float, mode: str = "nearest") -> nn.Module:
    return nn.Upsample(size, scale_factor, mode)


def _ignored(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return ``make`` without the number of repeats, which some blocks accept but ignore."""

    def made(*arguments: Any, repeats: int = 1, **settings: Any) -> nn.Module:  # noqa: ARG001
        return make(*arguments, **settings)

    return made


KINDS: dict[str, Kind] = {
    "Conv": Kind(layers.Conv, ("kernel", "stride", "padding", "groups", "dilation"), factor=_stride),
    "RepConv": Kind(
        blocks.RepConv, ("kernel", "stride"), "the one convolution that its branches fold into", factor=_stride
    ),
    "Bottleneck": Kind(blocks.Bottleneck, ("shortcut", "groups", "expansion")),
    "C3": Kind(blocks.C3, ("shortcut", "groups", "expansion"), repeats="repeats"),
    "SPP": Kind(blocks.SPP, ("kernels",)),
    "SPPF": Kind(blocks.SPPF, ("kernel",)),
    "SPPCSPC": Kind(_ignored(blocks.SPPCSPC), (), repeats="repeats"),
    "DownC": Kind(_ignored(blocks.DownC), (), repeats="repeats", factor=lambda _: 2),
    "Focus": Kind(blocks.Focus, ("kernel", "stride"), factor=lambda settings: 2 * _stride(settings)),
    "Concat": Kind(layers.Concat, ("dimension",), NONE, convolutional=False, channels=sum),
    "Shortcut": Kind(layers.Shortcut, ("dimension",), NONE, convolutional=False),
    "MP": Kind(layers.MP, ("kernel",), NONE, convolutional=False, factor=lambda settings: settings.get("kernel", 2)),
    "SP": Kind(layers.SP, ("kernel", "stride"), NONE, convolutional=False, factor=_stride),
    "ReOrg": Kind(
        layers.ReOrg, (), NONE, convolutional=False, channels=lambda inputs: 4 * inputs[0], factor=lambda _: 2
    ),
    "nn.Upsample": Kind(
        _upsample,
        ("size", "scale_factor", "mode"),
        NONE,
        convolutional=False,
        factor=lambda settings: 1 / settings["scale_factor"],
    ),
}
"""Every kind of layer before the head. `ImplicitA` and `ImplicitM` are inside the head and fold into its convolutions."""

HEAD_KINDS: dict[str, str] = {
    "Detect": f"none: each of its convolutions {PREDICTIONS}",
    "IDetect": f"none: each of its convolutions {PREDICTIONS}; the implicit vectors are folded",
    "IAuxDetect": f"none: each of its convolutions {PREDICTIONS}; the auxiliary ones are left out",
}
"""Every kind of head, with what of it is quantized by default."""

VOCABULARY = Vocabulary(
    layers=frozenset(KINDS),
    heads={"detect": frozenset(HEAD_KINDS)},
    words=frozenset({"nc", "anchors"}),
    required=("yaml", "channels", "classes", "act"),
)
"""Vocabulary of the descriptions of both families."""

YOLOV7_KINDS = frozenset({"RepConv", "SPPCSPC", "DownC", "Shortcut", "MP", "SP", "ReOrg", "IDetect", "IAuxDetect"})
"""The kinds that only YOLOv7 has."""


def settings_of(kind: Kind, arguments: Sequence[Any], *, act: str) -> Settings:
    """Return the settings that a YAML's arguments give.

    Args:
        kind: The layer's kind.
        arguments: Those behind the output channels, of a layer with convolutions.
        act: The model's activation, used where the arguments name none.

    Raises:
        ValueError: There are more arguments than the kind has settings.
    """
    rest = list(arguments)
    settings: Settings = {}
    if kind.convolutional:
        settings["act"] = act
        if rest and is_activation(rest[-1]):
            settings["act"] = rest.pop()
        elif len(rest) > 4 and isinstance(rest[-1], bool):  # behind kernel, stride, padding and groups
            settings["act"] = act if rest.pop() else "nn.Identity()"
    if len(rest) > len(kind.settings):
        raise ValueError(f"{len(rest)} arguments for {', '.join(kind.settings) or 'none'}")
    return settings | dict(zip(kind.settings, rest, strict=False))
