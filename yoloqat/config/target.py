"""What each engine's INT8 kernels want: the one table that a target's name stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from yoloqat.config.checks import check_choice
from yoloqat.errors import ConfigError

ADDS = ("residual", "both", "none")
"""Which inputs of an Add are quantized: the skip alone, skip and branch, or neither."""

MERGES = ("graph", "block", "tensor")
"""How far one scale reaches: through concats, pools and reshapes of the whole graph, of one block, or not at all."""


@dataclass(frozen=True)
class Target:
    """What is decided for the engine that will run a model. Weights have one scale per output channel in each.

    Attributes:
        name: What a user types, and the engine that `build` takes for the file.
        title: The engine's name in messages.
        symmetric: Activations with a zero-point of 0; False gives each a zero-point of its own (affine).
        adds: Which inputs of residual Adds are quantized, one of :data:`ADDS`.
        merge: How far tensors share a scale, one of :data:`MERGES`.
        half: FP16 where nothing is quantized.
        opset: Version of the ONNX operators that the file is written in, unless another is named.
        feeds: Float convolutions that read what a quantized layer reads too read the dequantized values, so that the layer before
            writes integers alone; costs accuracy, and saves the engine a second output.
        zero_points: The engine takes zero-points that are not 0, as an affine file for another target has them.
    """

    name: str
    title: str
    symmetric: bool
    adds: str
    merge: str
    half: bool
    opset: int
    feeds: bool = False
    zero_points: bool = True

    @property
    def scheme(self) -> str:
        """How the activations are quantized, in a word."""
        return "symmetric" if self.symmetric else "affine"


TENSORRT = Target(
    "tensorrt",
    "TensorRT",
    symmetric=True,
    adds="residual",
    merge="graph",
    half=True,
    opset=19,
    feeds=True,
    zero_points=False,
)
OPENVINO = Target("openvino", "OpenVINO", symmetric=False, adds="residual", merge="graph", half=False, opset=19)
ONNXRUNTIME = Target(
    "onnxruntime", "ONNX Runtime", symmetric=True, adds="residual", merge="graph", half=False, opset=19
)

TARGETS = {target.name: target for target in (TENSORRT, OPENVINO, ONNXRUNTIME)}
"""All there are, by name."""

UNNAMED = replace(TENSORRT, half=False, feeds=False)
"""What is decided where no target is named: TensorRT's scheme and placement, which every engine takes, and FP32 for the rest,
with no float layer fed from quantized values."""

DEFAULT_ENGINE = OPENVINO.name
"""The engine of a file that names no target."""


TARGET_KEY = "yoloqat_target"
"""The entry of an ONNX file's metadata that names its target; absent where none was named."""


def target_named(name: str | None) -> Target:
    """Return what a target decides; :data:`UNNAMED` for None.

    Raises:
        ConfigError: There is no such target.
    """
    if name is None:
        return UNNAMED
    check_choice("target", name, tuple(TARGETS))
    return TARGETS[name]


def target_of(metadata: Mapping[str, str]) -> Target | None:
    """Return the target that an ONNX file was exported for; None where it names none, or none that there is.

    Args:
        metadata: The file's own, by key.
    """
    return TARGETS.get(metadata.get(TARGET_KEY, ""))


def check_vnni(vnni: bool, engine: str | None) -> None:
    """Check that an engine has the guard against saturating sums that ``vnni`` leaves out.

    Args:
        vnni: The engine will run on processors with VNNI alone.
        engine: Its name, or the target's; None for the default.

    Raises:
        ConfigError: It is TensorRT, which runs on GPUs.
    """
    if vnni and engine == TENSORRT.name:
        raise ConfigError(
            f"vnni is True and the engine is '{engine}'",
            expected=f"{OPENVINO.name} or {ONNXRUNTIME.name}, which run on processors",
            hint="leave `vnni` out",
        )
