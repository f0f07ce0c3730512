"""Short fine-tuning of one candidate by distillation alone, judged by its noise on images that choose."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yoloqat.config import EvalConfig, to_dict
from yoloqat.datasets import ImageRecord
from yoloqat.detectors import Detector
from yoloqat.finetuning import BEST, SupervisionConfig
from yoloqat.pipeline.finetune import Scoring, finetune, float_detector
from yoloqat.pipeline.finetune_trainers import distilled
from yoloqat.pipeline.run import Run, records_key
from yoloqat.provenance import atomic_path, file_sha256


@dataclass(frozen=True)
class Tuning:
    """How a candidate is fine-tuned.

    Attributes:
        model: The float model's file.
        images: What it trains on; labels are not needed.
        judging: Images that tell the best epoch; none of those that confirm.
        scoring: Image size and batch.
        config: Epochs and rates.
    """

    model: Path
    images: Sequence[ImageRecord]
    judging: Sequence[ImageRecord]
    scoring: EvalConfig
    config: SupervisionConfig

    @property
    def key(self) -> dict[str, Any]:
        """JSON-able value that identifies it."""
        return {
            "config": to_dict(self.config),
            "images": records_key(self.images),
            "judging": records_key(self.judging),
        }

    @property
    def options(self) -> dict[str, Any]:
        """The options of ``finetune`` that train alike."""
        config = self.config
        rates = ",".join(f"{epoch}:{rate:g}" for epoch, rate in config.rates)
        names = ("epochs", "batch", "seed", "learn_amax", "patience")
        return {"supervise": config.stride, "lr0": rates, **{name: getattr(config, name) for name in names}}

    def tune(self, detector: Detector, checkpoint: Path, run: Run) -> dict[str, Any]:
        """Train a calibrated detector and put its best epoch in the place of its checkpoint; go on where it was interrupted.

        Args:
            detector: Calibrated; trained in place.
            checkpoint: Its file, which takes the best epoch.
            run: Device and threads.

        Returns:
            The keys of the result of ``finetune``.
        """
        teacher = float_detector(detector, self.model)
        train = distilled(self.config, lambda: tuple(self.images)).bind(detector, teacher, run)
        inner = replace(run, out=checkpoint.parent / "finetune")
        scoring = Scoring(None, self.scoring, inner, tuple(self.judging))
        inputs = {"checkpoint": file_sha256(checkpoint), **self.key}
        results = finetune(detector, teacher, train, scoring, config=self.config, inputs=inputs)
        # a copy: a run that is cut short after it finds the best epoch again
        with atomic_path(checkpoint) as temporary:
            shutil.copyfile(inner.out / BEST, temporary)
        return results
