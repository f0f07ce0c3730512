"""Fine-tuning by several processes of this machine, one for each device."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from yoloqat.config import EvalConfig
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.detectors import Detector, load_detector, torch_device, torch_threads
from yoloqat.detectors.ultralytics import batch_norms
from yoloqat.detectors.ultralytics_import import environment_kept
from yoloqat.finetuning import CheckpointManager, EpochRow, Figures, FinetuneConfig
from yoloqat.finetuning.distill import float_teacher
from yoloqat.finetuning.group import Group
from yoloqat.finetuning.ultralytics import finetune_ultralytics
from yoloqat.parallel.processes import Parent, ProcessPool
from yoloqat.pipeline.finetune import Judge, Scoring, float_detector, float_file, mark_finetuned
from yoloqat.pipeline.run import Run
from yoloqat.progress import Progress

_HINT = "type the same line to go on with the last finished epoch; see whether memory ran out"


@dataclass(frozen=True)
class Job:
    """A fine-tuning as plain values, which travel between processes.

    Attributes:
        checkpoint: What is trained.
        floating: The float model's file, or None where it is still where the checkpoint says.
        file: The data set YAML, from :func:`yoloqat.finetuning.training_data.training_file`.
        dataset: Images and labels to score on, or None without labels.
        evaluation: How to score.
        config: How to train.
        out: Where checkpoints go.
        logs: Where Ultralytics keeps its own record.
        threads: Threads inside an operator while the first process scores; for training they are shared among all.
        devices: Where each process trains, as :func:`yoloqat.detectors.torch_device` reads it.
        state: The file of the training state.
        rows: The figures so far.
        compared: Images to measure the noise on.
    """

    checkpoint: Path
    floating: Path | None
    file: Path
    dataset: DetectionDataset | None
    evaluation: EvalConfig
    config: FinetuneConfig
    out: Path
    logs: Path
    threads: int
    devices: tuple[str, ...]
    state: Path
    rows: tuple[EpochRow, ...] = ()
    compared: tuple[ImageRecord, ...] = ()

    def train(self, group: Group, progress: Progress) -> Detector:
        """Train as one of the processes.

        Returns:
            The detector as it was trained last, in each process the same.

        Raises:
            YoloqatError: As :func:`finetune_ultralytics`.
        """
        detector, device = load_detector(self.checkpoint), torch_device(self.devices[group.rank])
        floating = float_detector(detector, self.floating)
        norms = batch_norms(float_file(detector, self.floating)) if self.config.keep_bn else None
        mark_finetuned(detector, self.config)
        compared = self.compared if group.rank == 0 else ()
        scoring = Scoring(self.dataset, self.evaluation, Run(self.out, device, self.threads, progress), compared)
        with torch_threads(self.threads):
            judge = Judge(scoring, floating)
        teacher = float_teacher(floating.module) if self.config.weights.distils else None

        def evaluate(scored: Detector, weights: str) -> Figures:
            with torch_threads(self.threads):
                return judge.figures(scored, weights)

        checkpoints = CheckpointManager(self.out, self.state, evaluate, judge.tied)
        checkpoints.rows = list(self.rows)
        with torch_threads(max(1, self.threads // group.size) if device.type == "cpu" else self.threads):
            finetune_ultralytics(
                detector,
                self.file,
                self.config,
                checkpoints=checkpoints,
                folder=self.logs,
                teacher=teacher,
                norms=norms,
                device=device,
                group=group,
                state=checkpoints.resume(),
                progress=scoring.run.labelled("train"),
            )
        return detector


def train_together(job: Job, checkpoints: CheckpointManager, progress: Progress) -> None:
    """Train in processes, one for each of the job's devices, and load what they kept.

    Args:
        job: What to train; its figures are those of ``checkpoints``.
        checkpoints: Has the state that training goes on from, and all epochs afterwards.
        progress: Notified of what the first process does.

    Raises:
        YoloqatError: A process met one.
        CheckFailedError: A process was killed.
        RuntimeError: A process met a defect; the text is its traceback.
    """
    job = replace(job, rows=tuple(checkpoints.rows))
    (job.logs / "results.csv").unlink(missing_ok=True)  # every process would, and only one can
    size = len(job.devices)
    with tempfile.TemporaryDirectory(prefix="yoloqat-") as folder, ProcessPool(hint=_HINT) as pool:
        for rank in range(size):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
            with environment_kept(**place, TORCH_CPP_LOG_LEVEL="ERROR"):
                pool.start(partial(_train, job, Group(rank, size, Path(folder) / "meeting")))
        pool.join(progress)
    checkpoints.resume()


def _train(job: Job, group: Group, parent: Parent) -> None:
    """Train as one of the processes; the first one alone reports its progress."""

    def progress(step: str, done: int, total: int) -> None:
        parent.progress(step, done, total, send=group.rank == 0)

    job.train(group, progress)
