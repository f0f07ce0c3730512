"""Outputs on their way from the device: several forwards are under way while the first one's output is scored."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DEPTH = 4
"""Outputs that may be on their way from a CUDA device at once."""


@dataclass(frozen=True, eq=False)
class _Sent:
    """An output that is being copied to the host.

    Attributes:
        name: Of the model.
        host: Where the copy lies, once ``arrived`` has passed.
        seconds: Of the forward, where the host measured them.
        events: Before the forward and after the copy, on a CUDA device.
    """

    name: str | None
    host: Tensor
    seconds: float
    events: tuple[torch.cuda.Event, torch.cuda.Event] | None

    def received(self) -> tuple[str | None, NDArray[np.float32], float]:
        """Wait for this output, and for none that was started later."""
        if self.events is None:
            return self.name, self.host.numpy(), self.seconds
        began, arrived = self.events
        arrived.synchronize()
        return self.name, self.host.numpy(), began.elapsed_time(arrived) / 1e3


def landed(
    outputs: Iterator[tuple[str | None, Tensor]], device: torch.device, *, depth: int = DEPTH
) -> Iterator[tuple[str | None, NDArray[np.float32], float]]:
    """Yield name, output as an array on the host, and seconds of each forward, in their order.

    On a CUDA device nothing waits until ``depth`` later forwards have been started; elsewhere each output is there at once.

    Args:
        outputs: Runs the next forward when it is asked for the next item.
        device: Where they run.
        depth: Forwards that may be started before the first of them is waited for.
    """
    waiting: deque[_Sent] = deque()
    while True:
        start = time.perf_counter()
        began = _event() if device.type == "cuda" else None
        if began is not None:
            began.record(torch.cuda.current_stream(device))
        found = next(outputs, None)
        if found is None:
            break
        waiting.append(_sent(*found, start=start, began=began))
        if began is None or len(waiting) > depth:
            yield waiting.popleft().received()
    while waiting:
        yield waiting.popleft().received()


def _sent(name: str | None, output: Tensor, *, start: float, began: torch.cuda.Event | None) -> _Sent:
    if began is None:
        host = output.float().cpu()
        return _Sent(name, host, time.perf_counter() - start, None)
    host = torch.empty(output.shape, dtype=torch.float32, pin_memory=True)
    host.copy_(output.float(), non_blocking=True)
    arrived = _event()
    arrived.record(torch.cuda.current_stream(output.device))
    return _Sent(name, host, 0.0, (began, arrived))


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
