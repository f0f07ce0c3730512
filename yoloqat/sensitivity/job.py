"""All that another process needs to work on a scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from yoloqat.config import EvalConfig
from yoloqat.datasets import DetectionDataset
from yoloqat.detectors import load_detector
from yoloqat.errors import ConfigError
from yoloqat.sensitivity.scanner import MEMORY, Scanner
from yoloqat.sensitivity.settings import ScanConfig


@dataclass(frozen=True)
class Job:
    """A scan as plain values, which travel between processes.

    Attributes:
        checkpoint: A calibrated ``.safetensors`` checkpoint.
        dataset: Images and labels.
        config: How to score.
        scan: What to switch, and what to measure.
        study: File of the study.
        inputs: All that the findings depend on.
        device: Where torch runs, as :class:`torch.device` reads it.
        threads: Threads inside an operator.
        memory: Bytes of values that a replay keeps between items.
    """

    checkpoint: Path
    dataset: DetectionDataset
    config: EvalConfig
    scan: ScanConfig
    study: Path
    inputs: dict[str, Any]
    device: str
    threads: int
    memory: int = MEMORY

    def scanner(self, device: str | None = None) -> Scanner:
        """Load the detector and return what scans it.

        Args:
            device: Another device than the job's own.

        Raises:
            YoloqatError: As :func:`load_detector` and :class:`Scanner`.
        """
        return Scanner(
            load_detector(self.checkpoint),
            self.dataset,
            config=self.config,
            scan=self.scan,
            device=torch.device(device or self.device),
            memory=self.memory,
        )


def check_workers(workers: int, *, device: str, threads: int, cores: int, devices: int) -> None:
    """Check that as many processes can work at once without changing a number or slowing each other down.

    Args:
        workers: Processes.
        device: Where torch runs.
        threads: Threads inside an operator, of each process: the same as of one process, since they decide the last bits.
        cores: Of this machine.
        devices: CUDA devices of this machine.

    Raises:
        ConfigError: They cannot.
    """
    if device == "cpu" and workers * threads > cores:
        raise ConfigError(
            f"{workers} workers of {threads} threads each want {workers * threads} cores",
            expected=f"at most the {cores} cores of this machine",
            hint="set --workers or --threads lower; each worker uses the threads that one process would",
        )
    if device != "cpu" and workers > devices:
        raise ConfigError(
            f"{workers} workers want a CUDA device each",
            expected=f"at most the {devices} devices of this machine",
            hint="set --workers lower",
        )
