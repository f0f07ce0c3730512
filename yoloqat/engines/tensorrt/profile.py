"""The shapes that an engine takes."""

from __future__ import annotations

from dataclasses import dataclass

from yoloqat.engines.tensorrt.options import Span, TensorRTOptions
from yoloqat.errors import ConfigError, ModelError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class InputProfile:
    """Least, usual and greatest shape of the image input, each (batch, channels, height, width).

    Attributes:
        name: Name of the input.
        low: Least shape.
        usual: The shape that TensorRT tunes for.
        high: Greatest shape.
        dynamic: Whether the file leaves a dimension open, so that TensorRT must be told.
    """

    name: str
    low: Shape
    usual: Shape
    high: Shape
    dynamic: bool

    def holds(self, shape: Shape) -> bool:
        """Return whether ``shape`` lies between the least and the greatest one."""
        return len(shape) == len(self.low) and all(
            low <= side <= high for low, side, high in zip(self.low, shape, self.high, strict=True)
        )


def _span(what: str, fixed: int | None, asked: Span | None, source: str) -> Span:
    if fixed is not None:
        if asked is not None and {asked.low, asked.usual, asked.high} != {fixed}:
            raise ConfigError(
                f"{what} {asked.low} to {asked.high} is asked for, '{source}' fixes it to {fixed}",
                expected="a span only where the file leaves the dimension open",
                hint=f"drop the {what} settings, or export with an open {what}",
            )
        return Span(fixed, fixed, fixed)
    if asked is None:
        raise ConfigError(
            f"'{source}' leaves the {what} open and no {what} is named ({what} is {asked})",
            expected="its least, usual and greatest value",
            hint=f"set `TensorRTOptions.{what}`",
        )
    return asked


def input_profile(
    name: str, shape: tuple[int | None, ...], options: TensorRTOptions, *, stride: int, source: str
) -> InputProfile:
    """Return the shapes that the engine is built for.

    Args:
        name: Name of the image input.
        shape: Its shape in the file, (batch, channels, height, width), None for what is open.
        options: The settings, which span what is open.
        stride: Both sides of an image must be multiples of it, in pixels.
        source: The file, named in errors.

    Raises:
        ConfigError: A span is missing, contradicts the file, or holds a side that is no multiple of the stride.
        ModelError: The input is no batch of images.
    """
    if len(shape) != 4:
        raise ModelError(
            f"the input '{name}' of '{source}' has the shape {shape}",
            expected="(batch, channels, height, width)",
            hint="export a detector of images",
        )
    batch = _span("batch", shape[0], options.batch, source)
    height, width = (_span("imgsz", side, options.imgsz, source) for side in shape[2:])
    for side in (*vars(height).values(), *vars(width).values()):
        if side % stride:
            raise ConfigError(f"imgsz is {side}", expected=f"a multiple of the stride {stride}", hint="choose another")
    low, usual, high = (
        (getattr(batch, end), shape[1] or 3, getattr(height, end), getattr(width, end))
        for end in ("low", "usual", "high")
    )
    return InputProfile(name, low, usual, high, dynamic=None in shape)
