"""The versions of TensorRT that read a file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorRTVersion:
    """A TensorRT that reads the file.

    Attributes:
        name: What a user types.
        title: Its name in messages.
        opsets: Lowest and highest version of the standard ONNX operators that its parser reads.
    """

    name: str
    title: str
    opsets: tuple[int, int]


TENSORRT_10 = TensorRTVersion("tensorrt-10", "TensorRT 10", (9, 24))
"""Source: onnx-tensorrt ``docs/operators.md`` of release 10.15; what it reads, TensorRT 11 reads too."""
TENSORRT_11 = TensorRTVersion("tensorrt-11", "TensorRT 11", (9, 25))
"""Source: TensorRT 11 documentation, ONNX Opset Guide."""

TRT_VERSIONS = (TENSORRT_10, TENSORRT_11)
