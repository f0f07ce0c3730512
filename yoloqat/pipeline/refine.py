"""Refinement of a calibrated detector without labels, judged by its noise on images that took no part."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from yoloqat.config import EvalConfig
from yoloqat.config.checks import check_choice
from yoloqat.config.sizes import ImageSize, json_size
from yoloqat.datasets import ImageRecord, plan_batches, read_batches
from yoloqat.detectors import Detector, TorchPredictor
from yoloqat.detectors.predictor import forward_parts
from yoloqat.errors import CalibrationError, ModelError
from yoloqat.evaluation.fidelity import NOISE, Mean, mean
from yoloqat.evaluation.reference import Fidelity, Reference
from yoloqat.pipeline.run import Run, records_key
from yoloqat.provenance import atomic_path
from yoloqat.quant import quantization_disabled, state_digest
from yoloqat.refining import correct_biases

NONE, BIAS = "none", "bias"

STEPS = (BIAS,)
"""What a refinement may do."""

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
            hint="take more with `count`",
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
    raises it significantly, by the paired 95 % interval, is undone.

    Args:
        detector: Calibrated; not refined, and not fine-tuned.
        records: Images without labels; never those that it is scored on.
        steps: Of :data:`STEPS`, in this order.
        imgsz: Image size in pixels.
        batch: Images per forward where d is measured.
        run: Where finished layers are kept, on what device, who watches.

    Returns:
        ``refine``: the noise before, as the step ``none``, and after each step; ``refine_layers``: of each corrected layer the
        squared error after its activation, before and after, relative to the squared float output; ``refine_skipped``: layers
        that were left alone; ``count``, ``refine_held_out``: how many images took part and judged; ``refine_seconds``.

    Raises:
        CalibrationError: There are too few images.
        ConfigError: A step is unknown, or the image size does not fit.
        DataError: An image does not decode.
        ModelError: The detector is not calibrated, was refined or fine-tuned, or cannot be traced.
    """
    start = time.perf_counter()
    for step in steps:
        check_choice("refine", step, STEPS)
    check_refinable(detector)
    check_image_count(len(records))
    held_out = records[HELD_OUT - 1 :: HELD_OUT]
    fitted = [record for number, record in enumerate(records, start=1) if number % HELD_OUT]
    predictor = TorchPredictor(detector, device=run.device)
    config, progress = EvalConfig(imgsz=imgsz, batch=batch), run.labelled("refine")
    with quantization_disabled(detector.module):
        reference = Reference(predictor, held_out, config, detections=False, progress=progress)
    before = reference.compare(predictor, progress=progress)
    found: dict[str, Any] = {"refine": [_entry(NONE, before)]}
    for step in steps:
        biases = {name: value.detach().clone() for name, value in detector.module.named_parameters()}
        found |= _correct(detector, fitted, imgsz, run)
        after = reference.compare(predictor, progress=progress)
        change = mean(after.measures[NOISE] - before.measures[NOISE])
        accepted = not (change.low > 0 if change.images > 1 else change.value > 0)
        found["refine"].append(_entry(step, after, change, accepted=accepted))
        if accepted:
            before = after
        else:
            with torch.no_grad():
                for name, value in detector.module.named_parameters():
                    value.copy_(biases[name])
    kept = [row["step"] for row in found["refine"][1:] if row["accepted"]]
    if detector.quantization is not None and kept:
        about = {"steps": kept, "images": len(fitted), "held_out": len(held_out)}
        detector.quantization = replace(
            detector.quantization, calibration=detector.quantization.calibration | {"refine": about}
        )
    counts = {"refine_images": len(fitted), "refine_held_out": len(held_out)}
    return found | counts | {"refine_seconds": time.perf_counter() - start}


def _correct(detector: Detector, records: Sequence[ImageRecord], imgsz: ImageSize, run: Run) -> dict[str, Any]:
    made_of = {"step": BIAS, "model": state_digest(detector.module), "images": records_key(records)}
    path = run.part_path(run.key(**made_of, imgsz=json_size(imgsz)), "bias.safetensors")
    done = correct_biases(
        detector.module,
        _batches(detector, records, imgsz, run.device),
        skip={name: f"stays as it is: {reason}" for name, reason in detector.keep_float.items()},
        found=_load(path),
        keep=lambda shifts: _save(shifts, path),
        progress=run.labelled("refine"),
    )
    layers = [
        {"name": name, "error_before": before, "error_after": after} for name, (before, after) in done.errors.items()
    ]
    return {"refine_layers": layers, "refine_skipped": done.skipped}


def _batches(
    detector: Detector, records: Sequence[ImageRecord], imgsz: ImageSize, device: torch.device
) -> list[Tensor]:
    """Return images that fill the canvas, in batches of one size that does not exceed what the device takes at once."""
    (plan,) = plan_batches(records, imgsz, len(records), channels=detector.info.channels, cropped=True)
    part = forward_parts((len(records), plan.channels, *plan.shape), device)[0]
    size = next(size for size in range(part.stop, 0, -1) if len(records) % size == 0)
    plans = plan_batches(records, imgsz, size, channels=detector.info.channels, cropped=True)
    with closing(read_batches(plans)) as batches:
        return [torch.from_numpy(batch.images).to(device, memory_format=torch.channels_last) for batch in batches]


def _entry(step: str, fidelity: Fidelity, change: Mean | None = None, *, accepted: bool = True) -> dict[str, Any]:
    changed = {"d_change": None, "d_change_ci95": None} if change is None else change.to_dict("d_change")
    return {"step": step, "accepted": accepted, **fidelity.d.to_dict(NOISE), **changed}


def _save(shifts: Mapping[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        save_file({name: shift.detach().cpu().contiguous() for name, shift in shifts.items()}, temporary)


def _load(path: Path) -> dict[str, Tensor]:
    """Return the shifts that an interrupted run kept; none where there are none that can be read."""
    try:
        return load_file(path) if path.exists() else {}
    except (SafetensorError, OSError):
        return {}
