"""The steps of a refinement: each changes a calibrated detector in place and says what it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from yoloqat.config.sizes import ImageSize, json_size
from yoloqat.datasets import ImageRecord, plan_batches, read_batches
from yoloqat.detectors import Detector
from yoloqat.detectors.predictor import forward_parts
from yoloqat.pipeline.run import Run, records_key
from yoloqat.progress import Progress
from yoloqat.provenance import atomic_path
from yoloqat.quant import state_digest
from yoloqat.refining import correct_biases, learn_rounding
from yoloqat.refining.objective import detection_objective


@dataclass(frozen=True, eq=False)
class Task:
    """What a step works on.

    Attributes:
        detector: Calibrated; the steps before have changed it.
        records: The images that take part.
        imgsz: Image size in pixels.
        run: Where finished parts are kept, on what device, who watches.
        floating: The float model's parameters by name, which the steps before have changed in the detector.
    """

    detector: Detector
    records: Sequence[ImageRecord]
    imgsz: ImageSize
    run: Run
    floating: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def progress(self) -> Progress:
        """Told of every finished part of the step."""
        return self.run.labelled("refine")

    @property
    def skipped(self) -> dict[str, str]:
        """The layers that the step leaves alone, and why."""
        return {name: f"stays as it is: {reason}" for name, reason in self.detector.keep_float.items()}

    def batches(self, *, cropped: bool = True) -> list[Tensor]:
        """Return the images in batches of one size that does not exceed what the device takes at once.

        Args:
            cropped: Cut each image to the canvas, which it then fills, instead of padding it.
        """
        records, device, channels = self.records, self.run.device, self.detector.info.channels
        (plan,) = plan_batches(records, self.imgsz, len(records), channels=channels, cropped=cropped)
        part = forward_parts((len(records), plan.channels, *plan.shape), device)[0]
        size = next(size for size in range(part.stop, 0, -1) if len(records) % size == 0)
        plans = plan_batches(records, self.imgsz, size, channels=channels, cropped=cropped)
        with closing(read_batches(plans)) as batches:
            return [torch.from_numpy(batch.images).to(device, memory_format=torch.channels_last) for batch in batches]

    def kept(self, step: str) -> Kept:
        """Return where a step keeps finished parts of the same detector, images and size."""
        key = {"step": step, "model": state_digest(self.detector.module), "images": records_key(self.records)}
        return Kept(self.run.part_path(self.run.key(**key, imgsz=json_size(self.imgsz)), f"{step}.safetensors"))


@dataclass(frozen=True)
class Kept:
    """Tensors that an interrupted step goes on with."""

    path: Path

    def save(self, tensors: Mapping[str, Tensor]) -> None:
        """Keep what is finished so far, whole or not at all.

        Raises:
            OutputError: The file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path) as temporary:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)

    def load(self) -> dict[str, Tensor]:
        """Return what was kept; nothing where there is none that can be read."""
        try:
            return load_file(self.path) if self.path.exists() else {}
        except (SafetensorError, OSError):
            return {}


Step = Callable[[Task], dict[str, Any]]
"""Changes the detector in place and returns result keys of its own."""


def correct(task: Task) -> dict[str, Any]:
    """Correct the biases: ``refine_layers`` and ``refine_skipped``."""
    kept = task.kept(BIAS)
    done = correct_biases(
        task.detector.module,
        task.batches(),
        skip=task.skipped,
        found=kept.load(),
        keep=kept.save,
        progress=task.progress,
    )
    layers = [
        {"name": name, "error_before": before, "error_after": after} for name, (before, after) in done.errors.items()
    ]
    return {"refine_layers": layers, "refine_skipped": done.skipped}


def round_(task: Task) -> dict[str, Any]:
    """Learn the rounding: ``refine_blocks``, ``refine_restored`` and ``refine_rounding``."""
    kept = task.kept(ROUNDING)
    done = learn_rounding(
        task.detector.module,
        [*task.batches(), *task.batches(cropped=False)],
        objective=detection_objective(task.detector.info),
        floating=task.floating,
        found=kept.load(),
        keep=kept.save,
        progress=task.progress,
    )
    blocks = [
        {"name": name, "error_before": before, "error_after": after} for name, (before, after) in done.errors.items()
    ]
    layers = [{"name": name, "moved": share, "furthest": done.furthest[name]} for name, share in done.moved.items()]
    return {"refine_blocks": blocks, "refine_restored": list(done.restored), "refine_rounding": layers}


NONE, ALL, BIAS, ROUNDING = "none", "all", "bias", "rounding"

STEPS: Mapping[str, Step] = {BIAS: correct, ROUNDING: round_}
"""By name, in the order of :data:`ALL`."""


def steps_of(name: str) -> tuple[str, ...]:
    """Return the steps that one word names: none, all, or one."""
    return () if name == NONE else tuple(STEPS) if name == ALL else (name,)
