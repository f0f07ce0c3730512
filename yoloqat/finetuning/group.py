"""Several processes that train one model together, each on its share of every batch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

PATIENCE = timedelta(days=7)
"""How long a process waits for the others, e.g. while the first one scores: whoever started them sees when one ends."""


@dataclass(frozen=True)
class Group:
    """A process's place among those that train together, on one machine.

    Ultralytics reads the place from the environment variables ``RANK`` and ``LOCAL_RANK`` when it is imported; they must say
    the same.

    Attributes:
        rank: Of this process, from 0; the first one scores and keeps what is kept.
        size: How many there are.
        meeting: A file, the same for all and new, through which they find each other.
    """

    rank: int
    size: int
    meeting: Path

    def join(self, device: torch.device) -> None:
        """Wait for the others and connect to them: by NCCL on CUDA devices, one for each process, else by Gloo."""
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=self.meeting.absolute().as_uri(),
            rank=self.rank,
            world_size=self.size,
            timeout=PATIENCE,
        )

    def shared(self, module: nn.Module, device: torch.device) -> nn.Module:
        """Return a module whose gradients are averaged over the processes at every backward pass; its buffers are left alone."""
        wrapper = nn.parallel.DistributedDataParallel
        known = inspect.signature(wrapper).parameters
        buffers = (
            "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        )  # before torch 2.13
        options: dict[str, Any] = {buffers: False}
        return wrapper(
            module,
            device_ids=[device.index] if device.type == "cuda" else None,
            find_unused_parameters=True,  # images without objects, and distillation alone, reach not every layer
            **options,
        )


def leave_group() -> None:
    """Disconnect from the other processes where there are any."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def averaged(values: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """Return the mean of each value over the processes that train together; every one of them must call this."""
    if not (dist.is_available() and dist.is_initialized()):
        return dict(values)
    total = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return dict(zip(values, (total / dist.get_world_size()).tolist(), strict=True))
