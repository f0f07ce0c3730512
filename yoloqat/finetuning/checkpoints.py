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
class Figures:
    """What the model of an epoch is judged by.

    Attributes:
        map50_95: COCO mAP of the quantized model on the validation images, as a fraction; None without labels.
        d: Its noise to the float model; None where that was not measured.
        d_ci95: The 95 % interval of ``d``; None where there is none.
    """

    map50_95: float | None = None
    d: float | None = None
    d_ci95: list[float] | None = None


@dataclass(frozen=True)
class EpochRow:
    """The figures of one epoch.

    Attributes:
        epoch: Counted from 1; 0 is the model that training starts from.
        map50_95: As in :class:`Figures`.
        loss: Mean of the total loss per image over the epoch's steps; None for epoch 0.
        losses: Its parts by name.
        weights: Digest of the model's parameters and ranges, see :func:`yoloqat.quant.state_digest`.
        seconds: Time of the epoch's training steps, without scoring; None for epoch 0.
        d: As in :class:`Figures`.
        d_ci95: As in :class:`Figures`.
    """

    epoch: int
    map50_95: float | None
    loss: float | None
    losses: dict[str, float]
    weights: str
    seconds: float | None = None
    d: float | None = None
    d_ci95: list[float] | None = None


def _never(first: str, second: str) -> bool:
    """Tell no two mAPs from being different."""
    del first, second
    return False


class CheckpointManager:
    """Scores the model of each epoch and keeps checkpoints and the training state.

    Args:
        out: Where ``best.safetensors`` and ``last.safetensors`` go.
        state_path: The file of the training state.
        evaluate: Gives the figures of a detector; it is also given the digest of its weights.
        tied: Tells whether the mAPs of two models, named by the digests of their weights, are not told apart.
        told: Is given the row of every epoch as soon as it is scored.

    The best epoch is the one of the highest mAP; of epochs whose mAP ties with the highest it is the one of the lowest noise d,
    the earliest of equals. Without labels it is that of the lowest d.
    """

    def __init__(
        self,
        out: Path,
        state_path: Path,
        evaluate: Callable[[Detector, str], Figures],
        tied: Callable[[str, str], bool] = _never,
        told: Callable[[EpochRow], None] = lambda _row: None,
    ) -> None:
        self._out, self.state_path, self._evaluate, self._tied, self._told = out, state_path, evaluate, tied, told
        self.rows: list[EpochRow] = []
        self._best = 0

    @property
    def best(self) -> EpochRow:
        """The row of the best epoch so far."""
        return next(row for row in self.rows if row.epoch == self._best)

    @property
    def reason(self) -> str:
        """Why that epoch is the best."""
        best, top = self.best, self._top
        if best.map50_95 is None:
            return "lowest d"
        if best is top:
            return "highest mAP"
        return f"its mAP ties with the highest, that of epoch {top.epoch}, and its d is lower"

    @property
    def _top(self) -> EpochRow:
        return max(self.rows, key=lambda row: -1.0 if row.map50_95 is None else row.map50_95)

    def _beats(self, row: EpochRow) -> bool:
        """Return whether the last row is better than the best so far."""
        best, top = self.best, self._top
        lower = row.d is not None and (best.d is None or row.d < best.d)
        if row.map50_95 is None:
            return lower
        if row.d is None or best.d is None:
            return row is top
        if row is top and not self._tied(best.weights, row.weights):
            return True
        return lower and (row is top or self._tied(top.weights, row.weights))

    def stale(self, patience: int) -> bool:
        """Return whether no epoch has been better for ``patience`` epochs; never for 0."""
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
        self.rows, self._best = [self._row(0, detector, weights, None, {})], 0
        save_checkpoint(detector, self._out / BEST)
        return None

    def resume(self) -> TrainingState | None:
        """Return the state that was kept last, and take its figures; None where there is none."""
        state = TrainingState.load(self.state_path)
        if state is not None:
            self.rows, self._best = [EpochRow(**row) for row in state.values["rows"]], state.values["best_epoch"]
        return state

    def score(
        self, detector: Detector, epoch: int, losses: dict[str, float], *, loss: float, seconds: float
    ) -> EpochRow:
        """Score the model after an epoch and keep it, as the best too where it is.

        Args:
            detector: As it is after the epoch.
            epoch: Counted from 1.
            losses: Parts of the loss.
            loss: The whole.
            seconds: Time that training took.

        Returns:
            The figures of the epoch.

        Raises:
            OutputError: A checkpoint cannot be written.
        """
        weights = state_digest(detector.module)
        row = self._row(epoch, detector, weights, loss, losses, seconds)
        self.rows.append(row)
        self._told(row)
        save_checkpoint(detector, self._out / LAST)
        if self._beats(row):
            self._best = row.epoch
            save_checkpoint(detector, self._out / BEST)
        return row

    def _row(
        self,
        epoch: int,
        detector: Detector,
        weights: str,
        loss: float | None,
        losses: dict[str, float],
        seconds: float | None = None,
    ) -> EpochRow:
        found = self._evaluate(detector, weights)
        return EpochRow(epoch, found.map50_95, loss, losses, weights, seconds, found.d, found.d_ci95)

    def save(self, state: TrainingState) -> None:
        """Keep the state after an epoch.

        Raises:
            OutputError: It cannot be written.
        """
        state.values |= {"rows": self.table(), "best_epoch": self._best}
        state.save(self.state_path)

    def table(self) -> list[dict[str, Any]]:
        """Return the rows as JSON-able dicts."""
        return [asdict(row) for row in self.rows]
