"""Refinement of a calibrated detector without labels, judged by its noise on images that took no part."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from yoloqat.config import EvalConfig
from yoloqat.config.sizes import ImageSize
from yoloqat.datasets import ImageRecord
from yoloqat.detectors import Detector, TorchPredictor
from yoloqat.errors import CalibrationError, ModelError
from yoloqat.evaluation.fidelity import NOISE, Mean, mean
from yoloqat.evaluation.reference import Fidelity, Reference
from yoloqat.pipeline.refine_steps import NONE, STEPS, Task, steps_of
from yoloqat.pipeline.run import Run
from yoloqat.quant import quantization_disabled, quantizers

HELD_OUT = 4
"""Every so many-th image takes no part and judges."""

FEWEST = 2 * HELD_OUT
"""Images that a refinement needs at least: two must judge, for an interval."""


def check_refinable(detector: Detector) -> None:
    """Check that a detector is calibrated, and that its weights and biases still are the float model's.

    Raises:
        ModelError: It is float, or was refined or fine-tuned.
    """
    made = None if detector.quantization is None else detector.quantization.calibration
    if not made:
        raise ModelError(
            f"'{detector.source.path}' is not calibrated", expected="a calibrated detector", hint="calibrate it first"
        )
    for key, what in (("refine", "refined"), ("finetune", "fine-tuned")):
        if key in made:
            raise ModelError(
                f"'{detector.source.path}' was {what} before",
                expected="one whose weights and biases are the float model's",
                hint="refine the detector as it was calibrated",
            )


def check_image_count(images: int) -> None:
    """Check that there are enough images to refine on.

    Raises:
        CalibrationError: There are not.
    """
    if images < FEWEST:
        raise CalibrationError(
            f"there are {images} images to refine on",
            expected=f"at least {FEWEST}: every {HELD_OUT}th judges",
            hint="take more with `count`, or set `refine` to none",
        )


def refine_detector(
    detector: Detector,
    records: Sequence[ImageRecord],
    *,
    steps: Sequence[str],
    imgsz: ImageSize,
    batch: int,
    run: Run,
) -> dict[str, Any]:
    """Refine a calibrated detector in place.

    Every :data:`HELD_OUT`-th image takes no part: on these the noise d is measured before and after each step, and a step that
    raises it significantly above the least so far, by the paired 95 % interval, is undone.

    Args:
        detector: Calibrated; not refined, and not fine-tuned.
        records: Images without labels; never those that it is scored on.
        steps: Of :data:`~yoloqat.pipeline.refine_steps.STEPS`, in this order.
        imgsz: Image size in pixels.
        batch: Images per forward where d is measured.
        run: Where finished layers are kept, on what device, who watches.

    Returns:
        ``refine``: the noise before, as the step ``none``, and after each step. ``refine_images``, ``refine_held_out``: how many
        images took part and judged; ``refine_seconds``. Of ``bias`` also ``refine_layers``, of each corrected layer the squared
        error after its activation, before and after, relative to the squared float output, and ``refine_skipped``, layers that
        were left alone; of ``ranges`` also ``refine_ranges``, amax of each quantizer before and after.

    Raises:
        CalibrationError: There are too few images.
        ConfigError: A step is unknown, or the image size does not fit.
        DataError: An image does not decode.
        ModelError: The detector is not calibrated, was refined or fine-tuned, or cannot be traced.
    """
    start = time.perf_counter()
    steps = steps_of(steps)
    check_refinable(detector)
    check_image_count(len(records))
    held_out = records[HELD_OUT - 1 :: HELD_OUT]
    fitted = [record for number, record in enumerate(records, start=1) if number % HELD_OUT]
    predictor = TorchPredictor(detector, device=run.device)
    config, progress = EvalConfig(imgsz=imgsz, batch=batch), run.labelled("refine")
    with quantization_disabled(detector.module):
        reference = Reference(predictor, held_out, config, detections=False, progress=progress)
    least = reference.compare(predictor, progress=progress)
    found: dict[str, Any] = {"refine": [_entry(NONE, least)]}
    task = Task(detector, _teacher(detector), fitted, imgsz, run)
    for step in steps:
        state = _state(detector)
        found |= STEPS[step](task)
        after = reference.compare(predictor, progress=progress)
        change = mean(after.measures[NOISE] - least.measures[NOISE])
        accepted = not (change.low > 0 if change.images > 1 else change.value > 0)
        found["refine"].append(_entry(step, after, change, accepted=accepted))
        if not accepted:
            _restore(state)
        elif change.value < 0:
            least = after
    kept = [row["step"] for row in found["refine"][1:] if row["accepted"]]
    if detector.quantization is not None and kept:
        about = {"steps": kept, "images": len(fitted), "held_out": len(held_out)}
        detector.quantization = replace(
            detector.quantization, calibration=detector.quantization.calibration | {"refine": about}
        )
    counts = {"refine_images": len(fitted), "refine_held_out": len(held_out)}
    return found | counts | {"refine_seconds": time.perf_counter() - start}


def _entry(step: str, fidelity: Fidelity, change: Mean | None = None, *, accepted: bool = True) -> dict[str, Any]:
    changed = {"d_change": None, "d_change_ci95": None} if change is None else change.to_dict("d_change")
    return {"step": step, "accepted": accepted, **fidelity.d.to_dict(NOISE), **changed}


def _teacher(detector: Detector) -> nn.Module:
    """Return a copy of a detector's module that stays float."""
    teacher = copy.deepcopy(detector.module)
    for _, quantizer in quantizers(teacher):
        quantizer.disable()
    return teacher


State = Sequence[tuple[nn.Module, dict[str, Tensor | None], dict[str, Tensor | None]]]
"""Of each module its parameters and buffers: weights, biases, and the ranges of quantizers."""


def _state(detector: Detector) -> State:
    def copied(tensors: Mapping[str, Tensor | None]) -> dict[str, Tensor | None]:
        return {name: None if tensor is None else tensor.detach().clone() for name, tensor in tensors.items()}

    return [(child, copied(child._parameters), copied(child._buffers)) for child in detector.module.modules()]


def _restore(state: State) -> None:
    for child, parameters, buffers in state:
        for name, value in parameters.items():
            if value is not None:
                child.get_parameter(name).data.copy_(value)
        child._buffers.update(buffers)
