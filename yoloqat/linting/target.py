"""What will read the file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """An engine that the file is meant for.

    Attributes:
        name: What a user types.
        title: The engine's name.
        opsets: Lowest and highest version of the standard ONNX operators that its parser reads.
    """

    name: str
    title: str
    opsets: tuple[int, int]


TENSORRT_10 = Target("tensorrt-10", "TensorRT 10", (9, 24))
"""Source: onnx-tensorrt ``docs/operators.md`` of release 10.15; what it reads, TensorRT 11 reads too."""
TENSORRT_11 = Target("tensorrt-11", "TensorRT 11", (9, 25))
"""Source: TensorRT 11 documentation, ONNX Opset Guide."""

TARGETS = (TENSORRT_10, TENSORRT_11)
