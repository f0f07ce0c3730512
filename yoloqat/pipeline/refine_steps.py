"""The steps of a refinement: each changes a calibrated detector in place and says what it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from yoloqat.config.checks import check_choice
from yoloqat.config.sizes import ImageSize, json_size
from yoloqat.datasets import ImageRecord, plan_batches, read_batches
from yoloqat.detectors import Detector
from yoloqat.detectors.predictor import forward_parts
from yoloqat.pipeline.run import Run, records_key
from yoloqat.predictor import ModelInfo
from yoloqat.progress import Progress
from yoloqat.provenance import atomic_path
from yoloqat.quant import state_digest
from yoloqat.refining import correct_biases, learn_ranges, learn_rounding
from yoloqat.refining.objective import detection_objective


@dataclass(frozen=True, eq=False)
class Task:
    """What a step works on.

    Attributes:
        detector: Calibrated; the steps before have changed it.
        teacher: The float model: the detector's module before any step, with its quantizers off.
        records: The images that take part.
        imgsz: Image size in pixels.
        run: Where finished parts are kept, on what device, who watches.
    """

    detector: Detector
    teacher: nn.Module
    records: Sequence[ImageRecord]
    imgsz: ImageSize
    run: Run

    @property
    def progress(self) -> Progress:
        """Told of every finished part of the step."""
        return self.run.labelled("refine")

    @property
    def skipped(self) -> dict[str, str]:
        """The layers that the step leaves alone, and why."""
        return {name: f"stays as it is: {reason}" for name, reason in self.detector.keep_float.items()}

    def batches(self, size: int | None = None, *, cropped: bool = True) -> list[Tensor]:
        """Return the images in batches of one size, at most ``size`` and no more than what the device takes at once.

        Args:
            size: None takes as many as the device does.
            cropped: They fill the canvas; False letterboxes them.
        """
        records, device, channels = self.records, self.run.device, self.detector.info.channels
        (plan,) = plan_batches(records, self.imgsz, len(records), channels=channels, cropped=True)
        most = forward_parts((len(records), plan.channels, *plan.shape), device)[0].stop
        most = most if size is None else min(most, size)
        size = next(size for size in range(most, 0, -1) if len(records) % size == 0)
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
        floating=dict(task.teacher.named_parameters()),
        skip=task.skipped,
        found=kept.load(),
        keep=kept.save,
        progress=task.progress,
    )
    layers = [
        {"name": name, "error_before": before, "error_after": after} for name, (before, after) in done.errors.items()
    ]
    return {"refine_layers": layers, "refine_skipped": done.skipped}


def learn(task: Task) -> dict[str, Any]:
    """Learn the ranges: ``refine_ranges``."""
    kept = task.kept(RANGES)
    done = learn_ranges(
        task.detector.module,
        task.teacher,
        task.batches(BATCH, cropped=False),
        noise_loss(task.detector.info),
        found=kept.load(),
        keep=kept.save,
        progress=task.progress,
    )
    ranges = [
        {"name": name, "amax_before": before, "amax_after": after} for name, (before, after) in done.ranges.items()
    ]
    return {"refine_ranges": ranges}


def round_weights(task: Task) -> dict[str, Any]:
    """Learn the rounding: ``refine_blocks``, ``refine_restored`` and ``refine_rounding``."""
    kept = task.kept(ROUNDING)
    done = learn_rounding(
        task.detector.module,
        [*task.batches(), *task.batches(cropped=False)],
        objective=detection_objective(task.detector.info),
        floating=dict(task.teacher.named_parameters()),
        found=kept.load(),
        keep=kept.save,
        progress=task.progress,
    )
    blocks = [
        {"name": name, "error_before": before, "error_after": after} for name, (before, after) in done.errors.items()
    ]
    layers = [{"name": name, "moved": share, "furthest": done.furthest[name]} for name, share in done.moved.items()]
    return {"refine_blocks": blocks, "refine_restored": list(done.restored), "refine_rounding": layers}


def noise_loss(info: ModelInfo) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the mean over the images of what :func:`yoloqat.evaluation.fidelity.noise` measures, with a gradient.

    Of a head that does its own NMS the scores are compared rank by rank.
    """

    def loss(floating: Tensor, other: Tensor) -> Tensor:
        p, q = ((raw[..., 4] if info.end2end else raw[:, 4 : 4 + info.classes]).flatten(1) for raw in (floating, other))
        signal = p.sum(1)
        return ((q - p).abs().sum(1) / signal.clamp_min(torch.finfo(p.dtype).tiny))[signal > 0].mean()

    return loss


NONE, ALL, BIAS, RANGES, ROUNDING = "none", "all", "bias", "ranges", "rounding"

BATCH = 8
"""Images whose gradient moves the ranges together."""

STEPS: Mapping[str, Step] = {BIAS: correct, RANGES: learn, ROUNDING: round_weights}
"""By name."""

QUICK = (BIAS, RANGES, BIAS)
"""What takes seconds to few minutes: ranges are learned where biases are right already, and then want other biases."""

EVERYTHING = (*QUICK, ROUNDING)
"""What :data:`ALL` does."""


def steps_of(named: str | Sequence[str]) -> tuple[str, ...]:
    """Return the steps that a text names (none, all, or some in their order, joined by commas), or that are named one by one.

    Raises:
        ConfigError: A word or a step is unknown.
    """
    if isinstance(named, str):
        if named in (NONE, ALL):
            return EVERYTHING if named == ALL else ()
        if "," not in named:
            check_choice("refine", named, (NONE, *STEPS, ALL))
        named = named.split(",")
    for step in named:
        check_choice("refine", step, tuple(STEPS))
    return tuple(named)
