"""The noise budget of a quantized ONNX file: each Q/DQ pair alone in the float graph, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

import onnx

from yoloqat.config import EvalConfig, QuantConfig
from yoloqat.config.sizes import sides
from yoloqat.datasets import Batch, ImageRecord, plan_batches
from yoloqat.evaluation.fidelity import noise_only
from yoloqat.evaluation.reference import raw_outputs
from yoloqat.evaluation.scoring import check_fit, check_raw
from yoloqat.onnx_quant.placement import OnnxPlacement
from yoloqat.onnx_quant.predictor import GraphPredictor
from yoloqat.onnx_quant.quantize import fake_quantized, weight_location
from yoloqat.onnx_quant.sized import SizedGraph
from yoloqat.predictor import ModelInfo, RawOutputs
from yoloqat.quant.graph.cost import LayerCost
from yoloqat.quant.qparams import QParams
from yoloqat.quant.tensor_quantizer import TensorQuantizer
from yoloqat.sensitivity.curve import mac_share
from yoloqat.sensitivity.edges import Edge
from yoloqat.sensitivity.noise import FEWEST, BudgetScan, check_images
from yoloqat.sensitivity.settings import ScanConfig


class OnnxNoiseScan(BudgetScan):
    """Measures noises batch by batch: a graph with some Q/DQ pairs is made, loaded and run for each model.

    Batches have 16 images at least, since loading a graph takes as long as a few images.

    Args:
        model: The float graph in normal form.
        info: What it tells of itself.
        placement: Of its quantizers.
        qparams: Of all of them.
        quant: Their schemes.
        images: What it runs on; labels are not needed.
        config: Image size and batch; always the letterbox.
        scan: The granularity.
        threads: Threads inside one operator.

    Raises:
        ConfigError: The image size does not fit the model.
        DataError: There is no image.
        PatternError: A pattern of a group matches nothing.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        info: ModelInfo,
        placement: OnnxPlacement,
        qparams: QParams,
        *,
        quant: QuantConfig,
        images: Sequence[ImageRecord],
        config: EvalConfig,
        scan: ScanConfig,
        threads: int,
    ) -> None:
        check_images(images)
        check_fit(info, config)
        batches = plan_batches(images, config.imgsz, max(config.batch, FEWEST), channels=info.channels)
        super().__init__(info, list(_edges(placement, quant)), images, scan, batches)
        self._model, self._placement, self._qparams = model, placement, qparams
        self._size, self._threads = sides(config.imgsz), threads
        self._float: dict[int, RawOutputs] = {}

    def _noises(
        self, batch: int, loaded: Batch, on: Mapping[str, Collection[str]] | None, names: Sequence[str]
    ) -> Iterator[tuple[str, list[float]]]:
        if batch not in self._float:
            self._float[batch] = self._outputs((), loaded)
        wanted = self._single if on is None else on
        known: dict[frozenset[str], list[float]] = {}
        for name in names:
            key = frozenset(wanted[name])
            if key not in known:
                known[key] = noise_only(self._float[batch], self._outputs(key, loaded), self.info).tolist()
            yield name, known[key]

    def _outputs(self, on: Collection[str], loaded: Batch) -> RawOutputs:
        graph = fake_quantized(self._model, self._placement, self._qparams, on) if on else self._model
        predictor = GraphPredictor(graph, self.info, "the float graph with some pairs", threads=self._threads)
        raw = raw_outputs(predictor, loaded)
        check_raw(raw[0], self.info, loaded)
        return raw

    def mac_share(self, layers: Collection[str]) -> float:
        """Return which share of the multiply-adds of all layers is done in ``layers``."""
        return mac_share(self._costs, layers)

    @cached_property
    def _costs(self) -> list[LayerCost]:
        return SizedGraph.of(self._model, self.info.channels, self._size).costs()


def _edges(placement: OnnxPlacement, quant: QuantConfig) -> Iterator[Edge]:
    """Yield the uses of all quantizers, those of a layer together, in the order of execution."""
    owners, seen = placement.owners, set()
    for use in placement.uses:
        if use.location in seen:
            continue
        seen.add(use.location)
        attribute = use.location.rpartition(".")[2]
        owner = owners[use.location]
        quantizer = TensorQuantizer(quant.activations, name=owner)
        yield Edge(use.location, use.holder, (attribute,), quantizer, owner, is_weight=False, of_layer=use.of_layer)
        if use.of_layer:
            name = weight_location(use.holder)
            quantizer = TensorQuantizer(quant.weights, name=name)
            yield Edge(name, use.holder, (name.rpartition(".")[2],), quantizer, name, is_weight=True, of_layer=True)
