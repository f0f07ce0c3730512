"""The checkpoint manager: figures of every epoch, the last and the best checkpoint, and the state to resume from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yoloqat.detectors import Detector, save_checkpoint
from yoloqat.finetuning.state import TrainingState
from yoloqat.quant import state_digest

BEST, LAST = "best.safetensors", "last.safetensors"


@dataclass(frozen=True)
class EpochRow:
    """The figures of one epoch.

    Attributes:
        epoch: Counted from 1; 0 is the model that training starts from.
        map50_95: COCO mAP of the quantized model on the validation images, as a fraction.
        loss: Mean of the total loss per image over the epoch's steps; None for epoch 0.
        losses: Its parts by name.
        weights: Digest of the model's parameters and ranges, see :func:`yoloqat.quant.state_digest`.
        seconds: Time of the epoch's training steps, without scoring; None for epoch 0.
    """

    epoch: int
    map50_95: float
    loss: float | None
    losses: dict[str, float]
    weights: str
    seconds: float | None = None


class CheckpointManager:
    """Scores the model of each epoch and keeps checkpoints and the training state.

    Args:
        out: Where ``best.safetensors`` and ``last.safetensors`` go.
        state_path: The file of the training state.
        evaluate: Gives the mAP50-95 of a detector; it is also given the digest of its weights.
    """

    def __init__(self, out: Path, state_path: Path, evaluate: Callable[[Detector, str], float]) -> None:
        self._out, self.state_path, self._evaluate = out, state_path, evaluate
        self.rows: list[EpochRow] = []

    @property
    def best(self) -> EpochRow:
        """The row of the highest mAP, the earliest of equals."""
        return max(self.rows, key=lambda row: row.map50_95)

    def stale(self, patience: int) -> bool:
        """Return whether the mAP has not risen for ``patience`` epochs; never for 0."""
        return bool(patience) and self.rows[-1].epoch - self.best.epoch >= patience

    def start(self, detector: Detector) -> TrainingState | None:
        """Resume the state of an interrupted run, or score the model that training starts from.

        Args:
            detector: The calibrated detector.

        Returns:
            The state to go on from, or None at the beginning.

        Raises:
            OutputError: The checkpoint cannot be written.
        """
        state = self.resume()
        if state is not None:
            return state
        weights = state_digest(detector.module)
        self.rows = [EpochRow(0, self._evaluate(detector, weights), None, {}, weights)]
        save_checkpoint(detector, self._out / BEST)
        return None

    def resume(self) -> TrainingState | None:
        """Return the state that was kept last, and take its figures; None where there is none."""
        state = TrainingState.load(self.state_path)
        if state is not None:
            self.rows = [EpochRow(**row) for row in state.values["rows"]]
        return state

    def score(self, detector: Detector, epoch: int, losses: dict[str, float], *, loss: float, seconds: float) -> float:
        """Score the model after an epoch and keep it, as the best too where it is.

        Args:
            detector: As it is after the epoch.
            epoch: Counted from 1.
            losses: Parts of the loss.
            loss: The whole.
            seconds: Time that training took.

        Returns:
            The mAP50-95.

        Raises:
            OutputError: A checkpoint cannot be written.
        """
        weights = state_digest(detector.module)
        row = EpochRow(epoch, self._evaluate(detector, weights), loss, losses, weights, seconds)
        self.rows.append(row)
        save_checkpoint(detector, self._out / LAST)
        if self.best is row:
            save_checkpoint(detector, self._out / BEST)
        return row.map50_95

    def save(self, state: TrainingState) -> None:
        """Keep the state after an epoch.

        Raises:
            OutputError: It cannot be written.
        """
        state.values["rows"] = self.table()
        state.save(self.state_path)

    def table(self) -> list[dict[str, Any]]:
        """Return the rows as JSON-able dicts."""
        return [asdict(row) for row in self.rows]
