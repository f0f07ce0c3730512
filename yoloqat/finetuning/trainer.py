"""Ultralytics' own trainer with a calibrated detector in it.

Their augmentation, loss, data loaders, optimizers, callbacks and loggers stay; what is laid over are the places where a
quantized model needs something else: ranges are watched and perhaps learned, the loss may distil, an epoch is scored by
COCO mAP, and what is kept are our checkpoints and a state that resumes to the same losses.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yoloqat.detectors import Detector
from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.errors import CalibrationError, DataError, ModelError
from yoloqat.finetuning.checkpoints import CheckpointManager
from yoloqat.finetuning.distill import DistillingCriterion
from yoloqat.finetuning.group import Group, averaged
from yoloqat.finetuning.norms import fold
from yoloqat.finetuning.randomness import epoch_seeds, seed_everything
from yoloqat.finetuning.ranges import RangeGuard
from yoloqat.finetuning.settings import FinetuneConfig
from yoloqat.finetuning.state import TrainingState
from yoloqat.finetuning.training_data import training_data
from yoloqat.progress import Progress, silent
from yoloqat.quant.learned_ranges import LearnedRanges

TRAINERS = {"detect": ("detect", "DetectionTrainer"), "segment": ("segment", "SegmentationTrainer")}
"""By task: the package of `ultralytics.models.yolo` and the class in it."""


LONGEST_AVERAGE = 0.9999
"""Decay of the weights' average at most, as in Ultralytics."""


AMAX_RATE = 10.0
"""Learning rate of the logarithms of learned ranges, in that of the weights: Adam moves each by about its rate a step, and a
range may have to shrink by half, where a weight moves by hundredths."""


@dataclass
class Session:
    """The state that the hooks of one training share.

    Attributes:
        detector: What is trained.
        config: How.
        checkpoints: Scores and keeps each epoch.
        teacher: The float model to distil from, on the training device, or None.
        state: To go on from, or None.
        progress: Notified of every finished step.
        group: The processes that train together, or None where this one trains alone.
    """

    detector: Detector
    config: FinetuneConfig
    checkpoints: CheckpointManager
    teacher: nn.Module | None = None
    state: TrainingState | None = None
    progress: Progress = silent
    group: Group | None = None


class QatHooks:
    """The methods that are laid over a trainer of Ultralytics; :func:`trainer_class` joins the two."""

    session: Session
    model: Any
    ema: Any
    args: Any

    def get_dataset(self) -> dict[str, Any]:
        """Return the data set without fetching or running anything; Ultralytics calls this when it is made."""
        return training_data(Path(str(self.args.data)))

    def _setup_ddp(self) -> None:
        """Connect to the other processes, on CPUs too."""
        trainer: Any = self
        assert self.session.group is not None  # noqa: S101 - else nothing asks for it
        self.session.group.join(trainer.device)

    def _setup_train(self) -> None:
        """Set up as ever, then what belongs to quantization, then resume an interrupted run."""
        trainer: Any = self
        parent: Any = super()
        precision = trainer.args.amp
        trainer.args.amp = False  # else Ultralytics fetches a model and a picture to try mixed precision with
        if self.session.group is not None:
            trainer.world_size = 1  # until the model is shared, which Ultralytics does for GPUs alone
        try:
            parent._setup_train()
        except (RuntimeError, ValueError, FileNotFoundError) as error:
            raise refused(trainer.args.data, error) from error
        finally:
            trainer.args.amp = precision
        half = precision not in (False, "fp32") and trainer.device.type == "cuda"
        trainer.amp = half or precision == "bf16"
        trainer.scaler = torch.amp.GradScaler("cuda", enabled=half and precision != "bf16")
        module = _bare(trainer.model)
        weights = self.session.config.weights
        teacher = None if self.session.teacher is None else self.session.teacher.to(trainer.device)
        module.criterion = DistillingCriterion(
            module.init_criterion(), teacher, weights, bins=int(module.model[-1].reg_max)
        )
        self._guard = RangeGuard(module)
        trainer.ema.decay = averaging(math.ceil(self._batches / self._accumulate))
        if self.session.state is not None:
            self._resume(self.session.state)

    def build_optimizer(self, model: Any, **kwargs: Any) -> Any:
        """Build the optimizer as ever, with a group for learned ranges where they are."""
        parent: Any = super()
        optimizer = parent.build_optimizer(model, **kwargs)
        self._learned: LearnedRanges | None = None
        if self.session.config.learn_amax:
            learned = LearnedRanges(_bare(model))
            like = optimizer.param_groups[-1]
            group = {name: like[name] for name in ("lr", "betas", "momentum", "nesterov") if name in like}
            group |= {"lr": AMAX_RATE * like["lr"], "params": learned.parameters, "weight_decay": 0.0}
            optimizer.add_param_group(group | {"param_group": "amax"})
            optimizer.register_step_post_hook(lambda *_: learned.push_values())
            self._learned = learned
        return optimizer

    def _build_train_pipeline(self) -> None:
        """Build as ever, but count accumulated batches here: an epoch ends with a step, so that nothing is carried over."""
        trainer: Any = self
        parent: Any = super()
        if self.session.group is not None:
            trainer.world_size = self.session.group.size
            trainer.model = self.session.group.shared(trainer.model, trainer.device)
        parent._build_train_pipeline()
        self._accumulate, trainer.accumulate = trainer.accumulate, 1
        self._batches = len(trainer.train_loader)

    def start_epoch_anew(self) -> None:
        """Make everything random a function of the epoch, and let the loader begin anew."""
        trainer: Any = self
        rank = 0 if self.session.group is None else self.session.group.rank
        python, numpy, torch_seed, order = epoch_seeds(self.session.config.seed, trainer.epoch, rank)
        seed_everything(python, numpy, torch_seed)
        loader = trainer.train_loader
        loader.generator.manual_seed(order)
        if self.session.group is not None:  # it shuffles the images by this and the epoch, the same in every process
            loader.sampler.seed = self.session.config.seed
        dataset = loader.dataset
        for index in dataset.buffer:  # what mosaics are made of is forgotten too
            dataset.ims[index], dataset.im_hw0[index], dataset.im_hw[index] = None, None, None
        dataset.buffer.clear()
        loader.reset()
        self._batch, self._pending, self._started = 0, 0, time.perf_counter()

    def optimizer_step(self) -> None:
        """Step where a batch of accumulated gradients is full; check the loss and every range.

        Raises:
            ModelError: The loss is NaN or infinite.
            CalibrationError: A range is no longer finite and above 0.
        """
        trainer: Any = self
        parent: Any = super()
        self._batch, self._pending = self._batch + 1, self._pending + 1
        self.session.progress(f"epoch {trainer.epoch + 1}", self._batch, self._batches)
        if not bool(torch.isfinite(trainer.loss)):
            raise ModelError(
                f"the loss became {float(trainer.loss.detach())} in epoch {trainer.epoch + 1}, step {self._batch}",
                expected="a finite loss",
                hint=f"lower the learning rate; {self._last_good()}",
            )
        if self._pending < self._accumulate and self._batch < self._batches:
            return
        if self._learned is not None:
            self._learned.pull_gradients()
        parent.optimizer_step()
        self._pending = 0
        try:
            self._guard.check()
        except CalibrationError as error:
            hint = f"lower the learning rate; {self._last_good()}"
            raise CalibrationError(error.what, expected=error.expected, hint=hint) from error

    def _last_good(self) -> str:
        trainer: Any = self
        done = trainer.epoch
        return (
            f"last.safetensors holds epoch {done}"
            if done
            else "no epoch was finished, the calibrated model is the last"
        )

    def validate(self) -> tuple[dict[str, float] | None, float | None]:
        """Score the averaged model by COCO mAP, in the first process alone."""
        trainer: Any = self
        losses = averaged({name: float(value) for name, value in trainer.tloss.items()}, trainer.device)
        if self.session.group is not None and self.session.group.rank:
            return None, None
        module = copy.deepcopy(
            trainer.ema.ema
        )  # scoring moves it to another memory layout, which would undo the averaging
        module.criterion = None
        fold(module)
        detector = replace(self.session.detector, module=module.eval().requires_grad_(False))
        seconds = time.perf_counter() - self._started
        row = self.session.checkpoints.score(
            detector, trainer.epoch + 1, losses, loss=sum(losses.values()), seconds=seconds
        )
        fitness = row.map50_95 or 0.0
        if trainer.best_fitness is None or fitness > trainer.best_fitness:
            trainer.best_fitness = fitness
        return {"metrics/mAP50-95(B)": fitness}, fitness

    def save_model(self) -> bool:
        """Keep the state to go on from: the checkpoints were written when the epoch was scored."""
        trainer: Any = self
        trainer.stop = trainer.stop or self.session.checkpoints.stale(self.session.config.patience)
        state = TrainingState(values={"epoch": trainer.epoch + 1, "finished": bool(trainer.stop)})
        state.put_module("model", _bare(trainer.model))
        state.put_module("ema", trainer.ema.ema)
        state.put_optimizer(trainer.optimizer)
        state.tensors["ranges"] = {} if self._learned is None else self._learned.state()
        state.values |= {
            "ema_updates": trainer.ema.updates,
            "scaler": trainer.scaler.state_dict(),
            "best_fitness": trainer.best_fitness,
            "stopper": [trainer.stopper.best_fitness, trainer.stopper.best_epoch, trainer.stopper.possible_stop],
        }
        self.session.checkpoints.save(state)
        return True

    def _resume(self, state: TrainingState) -> None:
        trainer: Any = self
        module = _bare(trainer.model)
        state.load_module("model", module)
        state.load_module("ema", trainer.ema.ema)
        state.load_optimizer(trainer.optimizer)
        if self._learned is not None:
            self._learned.load(state.tensors["ranges"])
        trainer.ema.updates = state.values["ema_updates"]
        if state.values["scaler"]:
            trainer.scaler.load_state_dict(state.values["scaler"])
        trainer.best_fitness = state.values["best_fitness"]
        stopper = trainer.stopper
        stopper.best_fitness, stopper.best_epoch, stopper.possible_stop = state.values["stopper"]
        trainer.start_epoch = state.values["epoch"]
        trainer.scheduler.last_epoch = trainer.start_epoch - 1

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Recover from nothing: a loss that is not finite has ended the training at its step."""
        del epoch
        return False

    def final_eval(self) -> None:
        """Score nothing again: every epoch was."""


def averaging(steps: int) -> Callable[[int], float]:
    """Return the decay of the weights' average by the number of updates so far.

    Ultralytics' own takes 2000 steps to become an average at all, longer than most fine-tunings last. Under fake quantization
    weights jump to and fro between neighbouring integers, which an average over about one epoch, or ten steps, takes out.

    Args:
        steps: Of the optimizer in an epoch.
    """
    limit = min(LONGEST_AVERAGE, 1.0 - 1.0 / max(steps, 10))
    return lambda updates: min(limit, (1 + updates) / (10 + updates))


def refused(data: str, error: Exception) -> DataError:
    """Return the error for a data set or an argument that Ultralytics' trainer does not take."""
    return DataError(
        f"Ultralytics' trainer refuses data set '{data}' or an argument ({' '.join(str(error).split())[:300]})",
        expected="a data set YAML and arguments that `yolo train` takes",
        hint="try them there",
    )


def _bare(model: Any) -> Any:
    return ultralytics_module("utils.torch_utils").unwrap_model(model)


def trainer_class(task: str) -> Callable[..., Any]:
    """Return Ultralytics' trainer of a task, a key of :data:`TRAINERS`, with :class:`QatHooks` laid over."""
    package, name = TRAINERS[task]
    base = getattr(ultralytics_module(f"models.yolo.{package}"), name)
    return type(f"Qat{name}", (QatHooks, base), {})
