"""Fine-tuning by several processes of this machine, one for each device."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from yoloqat.config import EvalConfig
from yoloqat.datasets import DetectionDataset
from yoloqat.detectors import Detector, load_detector, torch_device, torch_threads
from yoloqat.detectors.ultralytics import batch_norms
from yoloqat.detectors.ultralytics_import import environment_kept
from yoloqat.errors import CheckFailedError, YoloqatError
from yoloqat.finetuning import EpochRow, FinetuneConfig, Keeper
from yoloqat.finetuning.distill import float_teacher
from yoloqat.finetuning.group import Group
from yoloqat.finetuning.ultralytics import finetune_ultralytics
from yoloqat.pipeline.finetune import Scoring, float_detector, float_file, mark_finetuned
from yoloqat.pipeline.run import Run
from yoloqat.progress import Progress

_GRACE_SECONDS = 3.0
"""How long the other processes are heard after one has failed: the first to tell of it may only have lost its partner."""

_STOP_SECONDS = 15.0
"""How long a process has to end by itself before it is killed."""


@dataclass(frozen=True)
class Job:
    """A fine-tuning as plain values, which travel between processes.

    Attributes:
        checkpoint: What is trained.
        floating: The float model's file, or None where it is still where the checkpoint says.
        file: The data set YAML, from :func:`yoloqat.finetuning.training_data.training_file`.
        dataset: Images and labels to score on.
        evaluation: How to score.
        config: How to train.
        out: Where checkpoints go.
        logs: Where Ultralytics keeps its own record.
        threads: Threads inside an operator while the first process scores; for training they are shared among all.
        devices: Where each process trains, as :func:`yoloqat.detectors.torch_device` reads it.
        state: The file of the training state.
        rows: The figures so far.
    """

    checkpoint: Path
    floating: Path | None
    file: Path
    dataset: DetectionDataset
    evaluation: EvalConfig
    config: FinetuneConfig
    out: Path
    logs: Path
    threads: int
    devices: tuple[str, ...]
    state: Path
    rows: tuple[EpochRow, ...] = ()

    def train(self, group: Group, progress: Progress) -> Detector:
        """Train as one of the processes.

        Returns:
            The detector as it was trained last, in each process the same.

        Raises:
            YoloqatError: As :func:`finetune_ultralytics`.
        """
        detector, device = load_detector(self.checkpoint), torch_device(self.devices[group.rank])
        teacher = float_teacher(float_detector(detector, self.floating).module) if self.config.weights.distils else None
        norms = batch_norms(float_file(detector, self.floating)) if self.config.keep_bn else None
        mark_finetuned(detector, self.config)
        scoring = Scoring(self.dataset, self.evaluation, Run(self.out, device, self.threads, progress))

        def evaluate(scored: Detector, weights: str) -> float:
            with torch_threads(self.threads):
                return scoring.map50_95(scored, weights)

        keeper = Keeper(self.out, self.state, evaluate)
        keeper.rows = list(self.rows)
        with torch_threads(max(1, self.threads // group.size) if device.type == "cpu" else self.threads):
            finetune_ultralytics(
                detector,
                self.file,
                self.config,
                keeper=keeper,
                folder=self.logs,
                teacher=teacher,
                norms=norms,
                device=device,
                group=group,
                state=keeper.take_up(),
                progress=scoring.run.labelled("train"),
            )
        return detector


def train_together(job: Job, keeper: Keeper, progress: Progress) -> None:
    """Train in processes, one for each of the job's devices, and take up what they kept.

    Args:
        job: What to train; its figures are those of ``keeper``.
        keeper: Has the state that training goes on from, and all epochs afterwards.
        progress: Told of what the first process does.

    Raises:
        YoloqatError: A process met one.
        CheckFailedError: A process was killed.
        RuntimeError: A process met a defect; the text is its traceback.
    """
    job = replace(job, rows=tuple(keeper.rows))
    (job.logs / "results.csv").unlink(missing_ok=True)  # every process would, and only one can
    with _started(job) as crew:
        _watch(crew, progress)
    keeper.take_up()


@dataclass(frozen=True)
class _Told:
    """What a process ended with.

    Attributes:
        at: Seconds of the machine's clock.
        error: Kind and parts of an error that the user can fix.
        defect: The traceback of any other.
    """

    at: float
    error: tuple[type[YoloqatError], str, str, str] | None = None
    defect: str | None = None


@dataclass
class _Member:
    """A process, the end of the pipe that it talks into, and its last word."""

    process: BaseProcess
    pipe: Connection
    told: _Told | None = field(default=None)

    def hear(self, progress: Progress) -> None:
        """Pass on what the process has said so far."""
        try:
            while self.told is None and self.pipe.poll():
                said = self.pipe.recv()
                if isinstance(said, _Told):
                    self.told = said
                else:
                    progress(*said)
        except (EOFError, OSError):
            return

    @property
    def failed(self) -> bool:
        """True where the process told of an error, or ended without a word."""
        if self.told is None:
            return self.process.exitcode is not None
        return self.told.error is not None or self.told.defect is not None


@contextmanager
def _started(job: Job) -> Iterator[list[_Member]]:
    """Start the processes; end those that are left when the context ends."""
    context: Any = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads and CUDA's state
    crew: list[_Member] = []
    with tempfile.TemporaryDirectory(prefix="yoloqat-") as folder:
        try:
            for rank in range(len(job.devices)):
                ours, theirs = context.Pipe(duplex=False)
                group = Group(rank, len(job.devices), Path(folder) / "meeting")
                process = context.Process(target=_serve, args=(job, group, theirs))
                place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(group.size)}
                with environment_kept(**place, TORCH_CPP_LOG_LEVEL="ERROR"), _deaf_to_interrupts():
                    process.start()
                theirs.close()
                crew.append(_Member(process, ours))
            yield crew
        finally:
            _stop(crew)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes that are started meanwhile ignore ^C, which reaches all of a terminal: this one ends them in order."""
    if threading.current_thread() is not threading.main_thread():  # others may not choose
        yield
        return
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, kept)


def _watch(crew: list[_Member], progress: Progress) -> None:
    """Wait until every process has done its part.

    Raises:
        YoloqatError: As :func:`train_together`.
        RuntimeError: As :func:`train_together`.
    """
    deadline = None
    while True:
        for member in crew:
            over = member.process.exitcode is not None
            member.hear(progress)
            if over and member.told is None:
                member.hear(progress)  # what it said last
        if any(member.failed for member in crew):
            deadline = deadline or time.monotonic() + _GRACE_SECONDS
            if time.monotonic() > deadline or all(member.process.exitcode is not None for member in crew):
                _raise(crew)
        elif all(member.told is not None for member in crew):
            return
        waiting: list[Any] = [member.pipe for member in crew if member.told is None and not member.failed]
        wait([*waiting, *(member.process.sentinel for member in crew if member.process.exitcode is None)], timeout=0.2)


def _raise(crew: list[_Member]) -> NoReturn:
    """Raise what the trouble began with: a process that was killed, else the first error, else the first defect."""
    for rank, member in enumerate(crew):
        if member.told is None and member.process.exitcode is not None:
            raise CheckFailedError(
                f"process {rank} of {len(crew)} ended with code {member.process.exitcode}",
                expected="processes that live to the end",
                hint="type the same line to go on with the last finished epoch; see whether memory ran out",
            )
    told = sorted((member.told for member in crew if member.told is not None), key=lambda one: one.at)
    for one in told:
        if one.error is not None:
            kind, what, expected, hint = one.error
            raise kind(what, expected=expected, hint=hint)
    raise RuntimeError(next(one.defect for one in told if one.defect is not None))


def _stop(crew: list[_Member]) -> None:
    until = time.monotonic() + _STOP_SECONDS
    for member in crew:
        if member.told is not None:  # it is on its way out
            continue
        if member.process.is_alive():
            member.process.terminate()
    for member in crew:
        member.process.join(max(0.0, until - time.monotonic()))
        if member.process.is_alive():
            member.process.kill()
            member.process.join()
        member.pipe.close()


def _serve(job: Job, group: Group, pipe: Connection) -> None:
    """Be one of the processes."""
    parent = os.getppid()

    def interrupted(number: int, frame: object) -> NoReturn:
        """Unwind, so that no half-written file stays behind; once is enough."""
        del frame
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)

    def progress(step: str, done: int, total: int) -> None:
        if os.getppid() != parent:
            raise KeyboardInterrupt
        if group.rank == 0:
            pipe.send((step, done, total))

    try:
        try:
            job.train(group, progress)
            pipe.send(_Told(time.monotonic()))
        except YoloqatError as error:
            pipe.send(_Told(time.monotonic(), error=(type(error), error.what, error.expected, error.hint)))
        except Exception:  # whatever it is, the one who waits must hear of it
            pipe.send(_Told(time.monotonic(), defect=traceback.format_exc()))
    except (KeyboardInterrupt, ConnectionError):
        return
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this process ends by itself now
