"""The noise budget: each quantizer alone in the float model, and what it adds to the noise d of the raw outputs.

Errors of different quantizers are nearly independent, so that the squares of their noises add up: image by image the root of the
sum of squares predicts the noise of all quantizers together. Leaving one quantizer out is the wrong direction for this: of many
independent noises one is a small part of the whole, and that rounding falls otherwise elsewhere hides it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from yoloqat.config import EvalConfig
from yoloqat.datasets import Batch, BatchPlan, ImageRecord, read_batches
from yoloqat.detectors import Detector
from yoloqat.errors import DataError
from yoloqat.evaluation.fidelity import Mean, mean, noise_only
from yoloqat.evaluation.interval import LEVEL, Resampling
from yoloqat.evaluation.scoring import check_fit, check_raw
from yoloqat.predictor import ModelInfo
from yoloqat.quant.graph import Graphs, Traced
from yoloqat.quant.graph.cost import layer_costs
from yoloqat.sensitivity.curve import mac_share
from yoloqat.sensitivity.edges import OFF, Edge, Switch, active_edges
from yoloqat.sensitivity.items import Item, make_items
from yoloqat.sensitivity.replay import Replay
from yoloqat.sensitivity.scanner import plan_scan
from yoloqat.sensitivity.settings import QUANTIZER, ScanConfig

Values = NDArray[np.float64]

FEWEST = 16
"""Images that a budget rests on at least, where there are so many."""

SETTLED = 0.05
"""The order is settled when the first k hold all but this share of what the first k of almost any other images would hold."""

WHOLE, WEIGHTS, ACTIVATIONS = "(all)", "(weights)", "(activations)"
"""Names of what is switched on together: everything, the weights alone, the activations alone."""

OTHERS = "(others)"
"""Name of the item that holds what groups leave out."""

PREFIX = "quantizer "
"""Before the name of a quantizer that is measured beside the items of another granularity."""


@dataclass(frozen=True, eq=False)
class NoiseBudget:
    """The noise of each quantizer and each item alone, by image.

    Attributes:
        items: What was switched together, by the granularity that was asked for.
        quantizers: Each shared scale, and each weight.
        weights: Names of the quantizers of weights.
        values: Noise d by image of each name: items, quantizers with :data:`PREFIX`, and :data:`WHOLE`, :data:`WEIGHTS` and
            :data:`ACTIVATIONS`; shape (images,).
        settled: Whether the order of the first k was settled before the images were used up.
    """

    items: tuple[Item, ...]
    quantizers: tuple[Item, ...]
    weights: frozenset[str]
    values: Mapping[str, Values]
    settled: bool = False

    @property
    def images(self) -> int:
        """The images that it rests on."""
        return len(self.values[WHOLE])

    def d(self, name: str) -> Mean:
        """Return the noise of a name of :attr:`values` with its interval."""
        return mean(self.values[name])

    @property
    def predicted(self) -> Values:
        """The noise of the whole by image that the quantizers alone predict, shape (images,)."""
        return root_sum_squares(self._of(self.quantizers, PREFIX))

    def shares(self) -> dict[str, Mean]:
        """Return each item's share of the sum of the squares of all items' noises. They add up to 1."""
        return self._item_shares

    @cached_property
    def _item_shares(self) -> dict[str, Mean]:
        return _shares(
            self.items, self._of(self.items)
        )  # with a bootstrap, which a curve must not repeat at each point

    def quantizer_shares(self) -> dict[str, Mean]:
        """Return each quantizer's share of the sum of the squares of all quantizers' noises."""
        return _shares(self.quantizers, self._of(self.quantizers, PREFIX))

    def quantizer_values(self, item: Item) -> Values:
        """Return the noise of one of :attr:`quantizers` by image."""
        return self.values[PREFIX + item.name]

    def left(self, names: Sequence[str]) -> float:
        """Return the noise that is predicted where some items are float: measured whole times what the others' squares leave."""
        gone = set(names)
        rest = sum(share.value for name, share in self.shares().items() if name not in gone)
        return self._whole.value * math.sqrt(rest)

    @cached_property
    def _whole(self) -> Mean:
        return self.d(WHOLE)

    def _of(self, items: Sequence[Item], prefix: str = "") -> Values:
        return np.stack([self.values[prefix + item.name] for item in items])


def root_sum_squares(values: Values) -> Values:
    """Return the root of the sum of squares over the first axis: the noise of independent noises together."""
    found: Values = np.sqrt(np.square(values).sum(axis=0))
    return found


def _seen(values: Values) -> Values:
    """Return the columns of the images on which the float model sees anything."""
    return values[:, np.isfinite(values).all(axis=0)]


def _squared_shares(means: Values) -> Values:
    """Return the share of each row in the sum of squares of its column; zero where there is no noise at all."""
    squares = np.square(means)
    total = squares.sum(axis=0)
    found: Values = np.divide(squares, total, out=np.zeros_like(squares), where=total > 0)
    return found


def _shares(items: Sequence[Item], values: Values) -> dict[str, Mean]:
    """Return each item's share with its interval: the same resamples of the images for all items."""
    seen = _seen(values)
    images = seen.shape[1]
    if not images:
        return {item.name: Mean(math.nan, math.nan, math.nan, 0) for item in items}
    shares = _squared_shares(seen.mean(axis=1))
    low = high = np.full(len(items), np.nan)
    if images > 1:
        resampled = _squared_shares(seen @ Resampling(images).weights() / images)
        low, high = np.percentile(resampled, [50.0 - LEVEL / 2, 50.0 + LEVEL / 2], axis=1)
    return {
        item.name: Mean(float(share), min(float(share), float(first)), max(float(share), float(last)), images)
        for item, share, first, last in zip(items, shares, low, high, strict=True)
    }


def order_is_settled(values: Values, first: int, *, seed: int = 0) -> bool:
    """Return whether the items of the largest shares are known.

    On 95 % of the bootstrap's resamples of the images, the first ``first`` of these images hold all but :data:`SETTLED` of the
    noise that the first ones of the resample itself hold. Items of nearly equal shares may change places for ever; here that
    does not count.

    Args:
        values: Noise of each item by image, shape (items, images).
        first: How many.
        seed: Seeds the resamples.
    """
    seen = _seen(values)
    items, images = seen.shape
    if images < 2 or first >= items:
        return bool(images >= 2)
    resampled = _squared_shares(seen @ Resampling(images, resamples=200, seed=seed).weights())
    ours = resampled[np.argsort(-seen.sum(axis=1), kind="stable")[:first]].sum(axis=0)
    best = np.sort(resampled, axis=0)[-first:].sum(axis=0)
    missed = np.divide(best - ours, best, out=np.zeros_like(best), where=best > 0)
    return bool(np.percentile(missed, 95.0) <= SETTLED)


class BudgetScan(ABC):
    """Measures noises batch by batch, whatever runs the models.

    Args:
        info: Of the float model.
        edges: The uses of its quantizers.
        images: What it runs on; labels are not needed.
        scan: The granularity; the mode plays no part.
        batches: How the images are divided.

    Attributes:
        items: What is switched together; what no item of a group holds is one more item, :data:`OTHERS`.
        quantizers: Each shared scale, and each weight.

    Raises:
        ConfigError: A group is malformed or named twice.
        PatternError: A pattern of a group matches nothing.
    """

    def __init__(
        self,
        info: ModelInfo,
        edges: Sequence[Edge],
        images: Sequence[ImageRecord],
        scan: ScanConfig,
        batches: Sequence[BatchPlan],
    ) -> None:
        self.info, self.images, self.batches = info, tuple(images), list(batches)
        self._edges = list(edges)
        self.items = tuple(_complete(make_items(self._edges, scan), self._edges))
        self.quantizers = tuple(make_items(self._edges, ScanConfig(granularity=QUANTIZER)))
        self.weights = frozenset(edge.quantizer_name for edge in self._edges if edge.is_weight)
        self._single: dict[str, Collection[str]] = {
            WHOLE: [edge.name for edge in self._edges],
            WEIGHTS: [edge.name for edge in self._edges if edge.is_weight],
            ACTIVATIONS: [edge.name for edge in self._edges if not edge.is_weight],
            **{item.name: item.edges for item in self.items},
            **{PREFIX + item.name: item.edges for item in self.quantizers},
        }

    @property
    def names(self) -> list[str]:
        """The models of a budget: everything on, weights, activations, each item alone, each quantizer alone."""
        return list(self._single)

    def run(
        self,
        batch: int,
        on: Mapping[str, Collection[str]] | None = None,
        *,
        names: Sequence[str] | None = None,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> dict[str, list[float]]:
        """Return the noise d of some models on the images of a batch; NaN where the float model sees nothing.

        Args:
            batch: Its number.
            on: The edges that are on in each model; None runs the models of :attr:`names`.
            names: The models that are run; None runs all.
            progress: Told of every finished model: how many of how many.

        Raises:
            DataError: An image does not decode.
            ModelError: An output holds NaN or infinity, or a model cannot be made.
        """
        with closing(read_batches([self.batches[batch]])) as batches:
            loaded = next(iter(batches))
        wanted = list(names or (self.names if on is None else on))
        found: dict[str, list[float]] = {}
        for name, values in self._noises(batch, loaded, on, wanted):
            found[name] = values
            progress(len(found), len(wanted))
        return found

    @abstractmethod
    def _noises(
        self, batch: int, loaded: Batch, on: Mapping[str, Collection[str]] | None, names: Sequence[str]
    ) -> Iterator[tuple[str, list[float]]]:
        """Yield each model with its noise on the images of a batch; arguments are those of :meth:`run`."""

    @abstractmethod
    def mac_share(self, layers: Collection[str]) -> float:
        """Return which share of the multiply-adds of all layers is done in ``layers``."""

    def without(self, items: Sequence[Item]) -> list[str]:
        """Return the edges that stay on where the layers of some items are float, as an ignore list leaves them."""
        layers = {layer for item in items for layer in item.layers}
        return [edge.name for edge in self._edges if not (edge.of_layer and edge.holder in layers)]

    def budget(self, parts: Sequence[Mapping[str, Sequence[float]]], *, settled: bool = False) -> NoiseBudget:
        """Join the results of some batches.

        Args:
            parts: What :meth:`run` returned for each.
            settled: Whether the order of the first items is known.
        """
        values = {
            name: np.concatenate([np.asarray(part[name], dtype=np.float64) for part in parts]) for name in self.names
        }
        return NoiseBudget(self.items, self.quantizers, self.weights, values, settled)


def check_images(images: Sequence[ImageRecord]) -> None:
    """Check that there are images to measure the noise on.

    Raises:
        DataError: There are none.
    """
    if not images:
        raise DataError("there are 0 images to measure the noise on", expected="at least one", hint="name images")


class NoiseScan(BudgetScan):
    """Measures noises batch by batch by replay of a torch model.

    Args:
        detector: A calibrated detector; its module is moved to the device, and otherwise stays as it is.
        images: What it runs on; labels are not needed.
        config: Image size, batch and NMS settings; always the letterbox.
        scan: The granularity and the bits; the mode plays no part.
        device: Where torch runs.
        memory: Bytes of values that a replay keeps between items.
        graphs: Graphs of the detector's module that are traced already; None begins with none.

    Attributes:
        items: What is switched together; what no item of a group holds is one more item, :data:`OTHERS`.
        quantizers: Each shared scale, and each weight.

    Raises:
        CalibrationError: A quantizer has no range.
        ConfigError: The image size does not fit the model.
        DataError: There is no image.
        ModelError: Nothing is quantized.
        PatternError: A pattern of a group matches nothing.
    """

    def __init__(
        self,
        detector: Detector,
        images: Sequence[ImageRecord],
        *,
        config: EvalConfig,
        scan: ScanConfig,
        device: torch.device,
        memory: int,
        graphs: Graphs | None = None,
    ) -> None:
        check_images(images)
        check_fit(detector.info, config)
        batches = plan_scan(images, replace(config, rect=False), info=detector.info, device=device)
        super().__init__(detector.info, active_edges(detector.module), images, scan, batches)
        self._bits, self._device, self._memory = scan.bits, device, memory
        self._module = detector.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._graphs = graphs or Graphs(self._module)
        self._replays: dict[tuple[int, ...], Replay] = {}  # a whole and a last, smaller batch

    def _noises(
        self, batch: int, loaded: Batch, on: Mapping[str, Collection[str]] | None, names: Sequence[str]
    ) -> Iterator[tuple[str, list[float]]]:
        del batch
        images = torch.from_numpy(loaded.images).to(self._device, memory_format=torch.channels_last)
        floating: NDArray[np.float32] | None = None
        for name, output in self._replay(images, on).run(images, names, memory=self._memory):
            raw = output.float().cpu().numpy()
            check_raw(raw, self.info, loaded)
            if floating is None or name is None:  # the float model comes first
                floating = raw
            else:
                yield name, noise_only([floating], [raw], self.info).tolist()

    def _replay(self, images: torch.Tensor, on: Mapping[str, Collection[str]] | None) -> Replay:
        shape = tuple(images.shape)
        if on is None and shape in self._replays:
            return self._replays[shape]
        base = {edge.name: OFF for edge in self._edges}
        switches = {name: self._switches(edges) for name, edges in (self._single if on is None else on).items()}
        # the noise is that of the class scores
        rows = None if self.info.end2end else (4, 4 + self.info.classes)
        replay = Replay(
            self._module,
            self.traced(images),
            self._edges,
            base=base,
            items=switches,
            rows=rows,
            graphs=self._graphs,
        )
        if on is None:
            self._replays[shape] = replay
        return replay

    def traced(self, images: torch.Tensor | None = None) -> Traced:
        """Return the module's graph at the shape of some images, or of the first batch."""
        if images is None:
            plan = self.batches[0]
            images = torch.zeros((len(plan.records), plan.channels, *plan.shape), device=self._device)
            images = images.to(memory_format=torch.channels_last)
        return self._graphs.at(images)

    def mac_share(self, layers: Collection[str]) -> float:
        """Return which share of the multiply-adds of all layers is done in ``layers``."""
        return mac_share(layer_costs(self.traced()), layers)

    def _switches(self, on: Collection[str]) -> dict[str, Switch]:
        wanted = set(on)
        off = {edge.name: OFF for edge in self._edges if edge.name not in wanted}
        return off if self._bits is None else off | dict.fromkeys(wanted, Switch(self._bits))


def _complete(items: Sequence[Item], edges: Sequence[Edge]) -> list[Item]:
    """Return items with one more that holds all edges that are in none of them, where there are such."""
    held = {name for item in items for name in item.edges}
    left = [edge for edge in edges if edge.name not in held]
    if not left:
        return list(items)
    layers = tuple(dict.fromkeys(edge.holder for edge in left if edge.of_layer))
    return [*items, Item(OTHERS, tuple(edge.name for edge in left), layers)]
