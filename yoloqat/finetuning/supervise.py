"""Fine-tuning by layer-wise supervision: the quantized detector learns to give what the float one gives inside. No labels.

The way of NVIDIA's yolov7_qat sample, for any detector: hooks take the outputs of every so many top-level modules of both
models, and Adam draws them together. Differences are taken in units of the float output's variance, so that no level
outweighs the others because its numbers are larger.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from yoloqat.datasets import ImageRecord, plan_batches, read_batches
from yoloqat.detectors import Detector
from yoloqat.errors import CalibrationError, ConfigError, ModelError
from yoloqat.finetuning.checkpoints import CheckpointManager
from yoloqat.finetuning.distill import feature_loss
from yoloqat.finetuning.randomness import epoch_seeds, generators_kept, seed_everything
from yoloqat.finetuning.ranges import RangeGuard, check_calibrated
from yoloqat.finetuning.settings import SupervisionConfig
from yoloqat.finetuning.state import TrainingState
from yoloqat.progress import Progress, silent
from yoloqat.quant import forget_inference
from yoloqat.quant.learned_ranges import LearnedRanges


def supervised_modules(module: nn.Module, stride: int) -> list[str]:
    """Return the names of the modules whose outputs are supervised.

    Args:
        module: A detector whose layers run in the order in which they are registered, the head last, either its own children
            or those of its child ``model``.
        stride: Every how many are taken, from the first on; the one before the head always is.

    Raises:
        ConfigError: The detector has no module before its head.
    """
    inner = getattr(module, "model", None)
    prefix, parent = ("model.", inner) if isinstance(inner, nn.Module) else ("", module)
    names = [f"{prefix}{name}" for name, _ in parent.named_children()][:-1]
    if not names:
        raise ConfigError(
            f"{type(module).__name__} has no layer before its head",
            expected="a detector of several layers",
            hint="fine-tune it on its own trainer",
        )
    return list(dict.fromkeys([*names[::stride], names[-1]]))


@contextmanager
def captured(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the output tensors of the named modules at every forward; other outputs are left out."""
    outputs: dict[str, Tensor] = {}

    def hook(name: str) -> object:
        def keep(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, Tensor):
                outputs[name] = output

        return keep

    with ExitStack() as stack:
        for name in names:
            handle = module.get_submodule(name).register_forward_hook(hook(name))  # type: ignore[arg-type]
            stack.callback(handle.remove)
        yield outputs


class _Supervision:
    """The moving parts of one training."""

    def __init__(self, detector: Detector, teacher: nn.Module, config: SupervisionConfig, device: torch.device) -> None:
        check_calibrated(detector.module)
        self.config, self.device, self.channels = config, device, detector.info.channels
        # batch-norms are folded: nothing else differs while training; scoring may have changed the layout, and with it the
        # last digits
        self.student = _plain(detector.module.eval(), device)
        self.teacher = _plain(teacher.eval(), device)
        self.names = supervised_modules(detector.module, config.stride)
        self.student.requires_grad_(True)
        self.learned = LearnedRanges(self.student) if config.learn_amax else None
        extra = self.learned.parameters if self.learned is not None else []
        self.optimizer = torch.optim.Adam([*self.student.parameters(), *extra], lr=config.rate(0))
        self.guard = RangeGuard(self.student)

    def step(self, images: Tensor) -> float:
        """Take one step and return the loss."""
        forget_inference(self.student)
        with captured(self.student, self.names) as ours, captured(self.teacher, self.names) as theirs:
            with torch.no_grad():
                self.teacher(images)
            self.student(images)
        loss = feature_loss([ours[name].float() for name in theirs], [theirs[name].float() for name in theirs])
        value = float(loss.detach())
        if not np.isfinite(value):
            raise ModelError(
                f"the loss became {value}",
                expected="a finite loss",
                hint="lower the learning rate with `SupervisionConfig.rates`",
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.learned is not None:
            self.learned.pull_gradients()
        self.optimizer.step()
        if self.learned is not None:
            self.learned.push_values()
        self.guard.check()
        return value

    def restore(self, state: TrainingState) -> None:
        """Resume an interrupted training."""
        state.load_module("model", self.student)
        state.load_optimizer(self.optimizer)
        if self.learned is not None:
            self.learned.load(state.tensors["ranges"])

    def release(self) -> None:
        """Stop asking for gradients."""
        if self.learned is not None:
            self.learned.release()
        self.student.requires_grad_(False)


def _plain(module: nn.Module, device: torch.device) -> nn.Module:
    moved: nn.Module = module.to(device, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return moved


def finetune_supervised(
    detector: Detector,
    teacher: nn.Module,
    records: Sequence[ImageRecord],
    config: SupervisionConfig,
    *,
    checkpoints: CheckpointManager,
    device: torch.device | None = None,
    state: TrainingState | None = None,
    progress: Progress = silent,
) -> None:
    """Fine-tune a calibrated detector of any family by distillation alone; its epochs are scored and kept by ``checkpoints``.

    Args:
        detector: Calibrated; its module is trained in place.
        teacher: The float module it was made from, with the same names inside.
        records: The images; labels are not read.
        config: How.
        checkpoints: Scores and keeps every epoch.
        device: Where to train.
        state: Of an interrupted run of the same settings.
        progress: Notified of every finished step.

    Raises:
        ConfigError: The detector has no module before its head.
        CalibrationError: A quantizer has no range, or one stopped being finite and above 0.
        ModelError: The loss is no longer finite.
        OutputError: A checkpoint cannot be written.
    """
    training = _Supervision(detector, teacher, config, device or torch.device("cpu"))
    first = 0
    if state is not None:
        training.restore(state)
        first = state.values["epoch"]
    try:
        with generators_kept():
            for epoch in range(first, config.epochs):
                started = time.perf_counter()
                loss = _epoch(training, records, epoch, checkpoints, progress)
                seconds = time.perf_counter() - started
                with torch.no_grad():
                    checkpoints.score(
                        replace(detector), epoch + 1, {"distill_features": loss}, loss=loss, seconds=seconds
                    )
                stale = checkpoints.stale(config.patience)
                _save(training, checkpoints, epoch + 1, finished=stale or epoch + 1 == config.epochs)
                if stale:
                    break
    finally:
        training.release()


def _epoch(
    training: _Supervision,
    records: Sequence[ImageRecord],
    epoch: int,
    checkpoints: CheckpointManager,
    progress: Progress,
) -> float:
    config = training.config
    for group in training.optimizer.param_groups:
        group["lr"] = config.rate(epoch)
    python, numpy, torch_seed, order = epoch_seeds(config.seed, epoch)
    seed_everything(python, numpy, torch_seed)
    shuffled = [records[index] for index in np.random.default_rng(order).permutation(len(records))]
    plans = plan_batches(shuffled, config.imgsz, config.batch, channels=training.channels)
    total = 0.0
    for done, batch in enumerate(read_batches(plans), start=1):
        try:
            total += training.step(torch.from_numpy(batch.images).to(training.device)) * len(batch.records)
        except (CalibrationError, ModelError) as error:
            last = checkpoints.rows[-1].epoch
            kept = f"last.safetensors holds epoch {last}" if last else "no epoch was finished"
            raise type(error)(error.what, expected=error.expected, hint=f"{error.hint}; {kept}") from error
        progress(f"epoch {epoch + 1}", done, len(plans))
    return total / len(records)


def _save(training: _Supervision, checkpoints: CheckpointManager, epoch: int, *, finished: bool) -> None:
    state = TrainingState(values={"epoch": epoch, "finished": finished})
    state.put_module("model", training.student)
    state.put_optimizer(training.optimizer)
    state.tensors["ranges"] = {} if training.learned is None else training.learned.state()
    checkpoints.save(state)
