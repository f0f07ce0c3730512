"""Which engine an ONNX file is built for, and whether that fits the target that it was exported for."""

from __future__ import annotations

from pathlib import Path

from yoloqat.config.target import DEFAULT_ENGINE, OPENVINO, TARGETS, Target, target_of
from yoloqat.engines.zero_points import shifted_zero_points
from yoloqat.errors import ConfigError, warn
from yoloqat.onnx_graph.file import load_onnx, properties, quantized_layers

AFFINE_GAIN = "0.118 instead of 0.180 in the engine of YOLOv8n at 320 px"
"""The noise d of the two schemes, calibrated by mse on 64 images; docs/targets.md has the measurement."""


def checked_engine(onnx: Path, engine: str | None) -> tuple[str, str | None]:
    """Return the engine to build from a file, and a line that says what another calibration would give.

    A file for another target than the engine is built with a warning where the engine can take it.

    Args:
        onnx: The ONNX file.
        engine: The engine that the user named; None takes the file's target, else OpenVINO.

    Raises:
        ConfigError: The file is for a target with zero-points, which the engine cannot take.
        ModelError: The file cannot be read.
    """
    model = load_onnx(onnx)
    target = target_of(properties(model))
    chosen = engine or (DEFAULT_ENGINE if target is None else target.name)
    if target is not None:
        _check_fit(onnx, target, TARGETS[chosen])
        return chosen, None
    symmetric = bool(quantized_layers(model)) and not shifted_zero_points(model)
    if chosen != OPENVINO.name or not symmetric:
        return chosen, None
    return chosen, (
        f"'{onnx.name}' was calibrated without a target, symmetrically, as TensorRT needs it; for {OPENVINO.title} "
        f"calibrate with `target={OPENVINO.name}`, whose zero-points lower the noise: d {AFFINE_GAIN}"
    )


def _check_fit(onnx: Path, target: Target, engine: Target) -> None:
    if target == engine:
        return
    if not engine.zero_points and not target.symmetric:
        raise ConfigError(
            f"'{onnx}' is for the target '{target.name}', whose activations have zero-points, and engine is '{engine.name}'",
            expected=f"engine '{target.name}', or a file for '{engine.name}', which knows no zero-point but 0",
            hint=f"calibrate with `target={engine.name}` and export that, or build with `engine={target.name}`",
        )
    warn(
        f"'{onnx}' is for the target '{target.name}' and is built for '{engine.name}': it keeps the scheme and the placement of "
        f"{target.title}; calibrate for the target '{engine.name}' to have its own"
    )
