"""One batch of images through the base model and some items: forward or replay, transfer to the host, NMS, matching."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloqat.config import EvalConfig
from yoloqat.datasets import Batch, BatchPlan, DetectionDataset, ImageRecord, plan_batches, read_batches
from yoloqat.detectors import Detector
from yoloqat.detectors.predictor import forward_parts
from yoloqat.errors import DataError
from yoloqat.evaluation.detections import Detections
from yoloqat.evaluation.ground_truth import GroundTruth
from yoloqat.evaluation.image_matches import ImageMatches, pack
from yoloqat.evaluation.metric import Metric
from yoloqat.evaluation.scoring import check_fit, suppressed
from yoloqat.predictor import ModelInfo
from yoloqat.quant.graph import Graphs
from yoloqat.sensitivity.edges import active_edges
from yoloqat.sensitivity.items import BASE, OTHER, base_switches, item_switches, make_items
from yoloqat.sensitivity.replay import Replay
from yoloqat.sensitivity.settings import ScanConfig
from yoloqat.sensitivity.study import WorkResult

DEPTH = 4
"""Outputs that may be on their way from a CUDA device at once."""


@dataclass(frozen=True, eq=False)
class _Transfer:
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

    def wait(self) -> tuple[str | None, NDArray[np.float32], float]:
        """Wait for this output, and for none that was started later."""
        if self.events is None:
            return self.name, self.host.numpy(), self.seconds
        began, arrived = self.events
        arrived.synchronize()
        return self.name, self.host.numpy(), began.elapsed_time(arrived) / 1e3


def on_host(
    outputs: Iterator[tuple[str | None, Tensor]], device: torch.device, *, depth: int = DEPTH
) -> Iterator[tuple[str | None, NDArray[np.float32], float]]:
    """Yield name, output as an array on the host, and seconds of each forward, in their order.

    On a CUDA device nothing waits until ``depth`` later forwards have been started; elsewhere each output is there at once.

    Args:
        outputs: Runs the next forward when it is asked for the next item.
        device: Where they run.
        depth: Forwards that may be started before the first of them is waited for.
    """
    waiting: deque[_Transfer] = deque()
    while True:
        start = time.perf_counter()
        began = _event() if device.type == "cuda" else None
        if began is not None:
            began.record(torch.cuda.current_stream(device))
        found = next(outputs, None)
        if found is None:
            break
        waiting.append(_transfer(*found, start=start, began=began))
        if began is None or len(waiting) > depth:
            yield waiting.popleft().wait()
    while waiting:
        yield waiting.popleft().wait()


def _transfer(name: str | None, output: Tensor, *, start: float, began: torch.cuda.Event | None) -> _Transfer:
    if began is None:
        host = output.float().cpu()
        return _Transfer(name, host, time.perf_counter() - start, None)
    host = torch.empty(output.shape, dtype=torch.float32, pin_memory=True)
    host.copy_(output.float(), non_blocking=True)
    arrived = _event()
    arrived.record(torch.cuda.current_stream(output.device))
    return _Transfer(name, host, 0.0, (began, arrived))


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


MEMORY = 2 << 30
"""Bytes of values that a replay keeps between items, unless said otherwise."""

_SHAPES = 4
"""Shapes whose graphs are kept; rectangular batches have many."""


def plan_scan(
    images: Sequence[ImageRecord], config: EvalConfig, *, info: ModelInfo, device: torch.device
) -> list[BatchPlan]:
    """Divide the images into what goes through the module together, exactly as an evaluation does."""
    plans = plan_batches(
        images, config.imgsz, config.batch, rect=config.rect, stride=info.stride, channels=info.channels
    )
    return [
        replace(plan, records=plan.records[part])
        for plan in plans
        for part in forward_parts((len(plan.records), plan.channels, *plan.shape), device)
    ]


class Scanner:
    """Runs items on batches of images.

    Args:
        detector: A calibrated detector; its module is moved to the device, and otherwise stays as it is.
        dataset: Images and labels.
        config: How to score.
        scan: What to switch, and what to measure.
        device: Where torch runs.
        memory: Bytes of values that a replay keeps between items.
        only: Names of the items to run; None runs all.

    Attributes:
        graphs: Of the detector's module, for whatever else runs on it.

    Raises:
        ConfigError: The image size does not fit the model, or the data set lacks the metric's class, or the bits of the quantizer
            under test are those it has anyway.
        DataError: Names of classes and categories do not match, or no object counts for the metric.
        CalibrationError: A quantizer has no range.
        ModelError: Nothing is quantized.
        PatternError: A pattern of a group matches nothing.
    """

    def __init__(
        self,
        detector: Detector,
        dataset: DetectionDataset,
        *,
        config: EvalConfig,
        scan: ScanConfig,
        device: torch.device,
        memory: int = MEMORY,
        only: Collection[str] | None = None,
    ) -> None:
        check_fit(detector.info, config)
        self.detector, self.config, self.scan, self._device, self._memory = detector, config, scan, device, memory
        self.edges = active_edges(detector.module)
        self.items = [item for item in make_items(self.edges, scan) if only is None or item.name in only]
        self.base = base_switches(self.edges, scan)
        self.switches = item_switches(self.items, self.edges, scan)
        self.truth = GroundTruth.of(dataset, detector.info.names, Metric.parse(scan.metric))
        if not self.truth.category_ids:
            raise DataError(
                f"metric is '{scan.metric}' and no object of {dataset.labels_source} counts for it",
                expected="objects of its class and size",
                hint="choose another with `metric`, or name other annotations",
            )
        self._position = {number: position for position, number in enumerate(self.truth.image_ids)}
        self.batches = plan_scan(dataset.images, config, info=detector.info, device=device)
        self._module = detector.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.graphs = Graphs(self._module, kept=2 * _SHAPES)
        self._replays: OrderedDict[tuple[int, ...], Replay] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """The models to run: the base, its opposite, and all items."""
        return [BASE, OTHER, *(item.name for item in self.items)]

    def positions(self, batch: int) -> list[int]:
        """Return where the images of a batch stand in the ground truth."""
        return [self._position[record.image_id] for record in self.batches[batch].records]

    def images(self, batch: int) -> tuple[Tensor, Batch]:
        """Return the images of a batch on the device, and where they came from."""
        with closing(read_batches(self.batches[batch : batch + 1])) as batches:
            loaded = next(iter(batches))
        return torch.from_numpy(loaded.images).to(self._device, memory_format=torch.channels_last), loaded

    def replay(self, images: Tensor) -> Replay:
        """Return the replay for images of this shape, traced when first asked for."""
        shape = tuple(images.shape)
        if shape not in self._replays:
            traced = self.graphs.at(images)
            self._replays[shape] = Replay(
                self._module, traced, self.edges, base=self.base, items=self.switches, graphs=self.graphs
            )
            while len(self._replays) > _SHAPES:
                self._replays.popitem(last=False)
        self._replays.move_to_end(shape)
        return self._replays[shape]

    def run(self, batch: int, names: Collection[str]) -> Iterator[tuple[str, WorkResult]]:
        """Yield what each of the models ``names`` gives on a batch, in an order of its own.

        Raises:
            DataError: An image does not decode.
            ModelError: An output holds NaN or infinity, or the model cannot be traced.
        """
        images, loaded = self.images(batch)
        replay = self.replay(images)
        outputs = replay.run(images, [name for name in names if name != BASE], memory=self._memory)
        base: NDArray[np.float32] | None = None
        for name, raw, forward in on_host(outputs, self._device):
            base = raw if base is None else base  # which comes first
            if name is not None or BASE in names:
                yield name or BASE, self._result(name or BASE, raw, base, loaded, forward=forward)

    def _result(
        self, name: str, raw: NDArray[np.float32], base: NDArray[np.float32], loaded: Batch, *, forward: float
    ) -> WorkResult:
        start = time.perf_counter()
        whole = name in (BASE, OTHER)
        changed = [row for row in range(len(raw)) if whole or not np.array_equal(raw[row], base[row])]
        part = Batch(
            loaded.images[changed],
            tuple(loaded.records[row] for row in changed),
            tuple(loaded.geometries[row] for row in changed),
        )
        found = suppressed(raw[changed], part, self.detector.info, self.config) if changed else []
        matches: list[ImageMatches | None] = [None] * len(raw)
        for row, record, detections in zip(changed, part.records, found, strict=True):
            matches[row] = self.truth.match(self._position[record.image_id], detections)
        return WorkResult(
            pack(matches),
            head_error(raw, base, classes=self.detector.info.classes),
            forward,
            time.perf_counter() - start,
            len(changed),
            Detections.of_images([record.image_id for record in part.records], found).to_bytes() if whole else None,
        )


def head_error(raw: NDArray[np.float32], base: NDArray[np.float32], *, classes: int) -> float:
    r"""Return how far the head's output is from that of the base model.

    .. math:: \frac{\sum (s - s_0)^2}{\sum s_0^2} + \frac{\sum m_0 \lVert b - b_0 \rVert^2}{\sum m_0 \lVert w_0 \rVert^2}

    with the class scores s, the boxes b, their sizes w, and m the highest score at each anchor: boxes nobody will see do not
    count. An end-to-end head, which sorts, is compared row by row.

    Args:
        raw: Raw output, shape (batch, 4 + classes + extra, anchors) or (batch, detections, 6 + extra), float32.
        base: That of the base model.
        classes: Number of classes.
    """
    if raw.shape[1] < 4 + classes:
        difference = raw.astype(np.float64) - base
        return float((difference**2).sum() / max(float((base.astype(np.float64) ** 2).sum()), 1e-30))
    scores, other = raw[:, 4 : 4 + classes], base[:, 4 : 4 + classes]
    boxes = raw[:, :4] - base[:, :4]
    best = other.max(axis=1)
    of_scores = float(np.square(scores - other, dtype=np.float64).sum()) / max(
        float(np.square(other, dtype=np.float64).sum()), 1e-30
    )
    moved = float((best * np.square(boxes, dtype=np.float64).sum(axis=1)).sum())
    sizes = float((best * np.square(base[:, 2:4], dtype=np.float64).sum(axis=1)).sum())
    return of_scores + moved / max(sizes, 1e-30)
