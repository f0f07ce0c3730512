"""A QDQ file that was calibrated from a float ONNX file, as a search of float sets takes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from yoloqat.config import EvalConfig, Recipe
from yoloqat.config.sizes import ImageSize, checked_imgsz, sides
from yoloqat.datasets import ImageRecord
from yoloqat.engines import OnnxPredictor
from yoloqat.export.qdq import save_onnx
from yoloqat.onnx_graph.index import index_of
from yoloqat.onnx_quant.float_graph import layer_nodes
from yoloqat.onnx_quant.sized import SizedGraph
from yoloqat.pipeline.onnx_files import read_quantized
from yoloqat.pipeline.onnx_noise import run_onnx_budget
from yoloqat.pipeline.recipe import made_recipe
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.search_model import SizedModel
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.pipeline.shards import ModelFile
from yoloqat.provenance import file_sha256
from yoloqat.searching.tied import Step
from yoloqat.sensitivity.settings import NOISE, ScanConfig

_SHAPES = frozenset({"Shape", "Size"})


class SearchedFile:
    """A QDQ file that ``calibrate`` made of a float ONNX file.

    Args:
        path: The file; the float file lies beside it, or where it was written.
        run: Keeps the files of float sets; threads.

    Raises:
        ModelError: It was not made from an ONNX file, is damaged, or its float file is missing or another.
    """

    family = "onnx"

    def __init__(self, path: Path, run: Run) -> None:
        self.quantized = read_quantized(path)
        self._path, self._run = path, run
        self.info = self.quantized.floating.info
        self.imgsz = checked_imgsz(self.info.imgsz, low=1) if self.info.imgsz else EvalConfig.imgsz
        self.source, self.target = self.quantized.origin, self.quantized.quant.target
        self.placement, self.layers = self.quantized.placement.plan, self.quantized.placement.layers
        self.state = file_sha256(path)

    def sized(self, imgsz: ImageSize) -> SizedModel:
        """Return the graph at an image size."""
        graph = SizedGraph.of(self.quantized.floating.model, self.info.channels, sides(imgsz))
        return SizedModel(list(graph_steps(graph)), graph.costs())

    def nodes(self) -> dict[str, str]:
        """Return the name of each quantized layer's nodes to the layer: one that shares its weight has several."""
        nodes = layer_nodes(index_of(self.quantized.floating.model))
        return {node: layer for node, layer in nodes.items() if layer in self.layers}

    def budget(
        self, images: Sequence[ImageRecord], config: EvalConfig, *, options: ScanOptions, run: Run
    ) -> dict[str, Any]:
        """Measure the noise of each layer alone.

        Raises:
            YoloqatError: As :func:`yoloqat.pipeline.onnx_noise.run_onnx_budget`.
        """
        scan = ScanConfig(mode=NOISE)
        return run_onnx_budget(self._path, self.quantized, images, config, scan=scan, options=options, run=run)

    def export(self, layers: Sequence[str], path: Path, imgsz: ImageSize) -> None:  # noqa: ARG002 - the file has a size
        """Write a QDQ file in which some layers are float.

        Raises:
            ExportError: The graph is not valid.
            OutputError: The file cannot be written.
        """
        floating = self.quantized.floating
        if set(layers) == set(self.layers):
            save_onnx(floating.model, path)
            return
        mixed = self.quantized.leave_float(layers) if layers else self.quantized
        model, _ = mixed.graph(floating.source, self.quantized.origin["float_sha256"])
        save_onnx(model, path)

    def predictor(self, layers: Sequence[str]) -> OnnxPredictor:
        """Return the file with some layers float, computed in float arithmetic."""
        return OnnxPredictor(self.file(layers).path, threads=self._run.threads)

    def file(self, layers: Sequence[str]) -> ModelFile:
        """Return the file with some layers float, written where it is not there yet.

        Raises:
            OutputError: It cannot be written.
        """
        if set(layers) == set(self.layers):
            return ModelFile(self.quantized.floating.source.absolute(), self._run.threads)
        path = self._run.part_path(self._run.key(qfloat=self.state, float_layers=sorted(layers)), "model.onnx")
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            self.export(layers, path, self.imgsz)
        return ModelFile(path.absolute(), self._run.threads)

    def recipe(self, config: EvalConfig, layers: Sequence[str], **figures: Mapping[str, Any]) -> Recipe:
        """Return what calibrates the float file again with some layers float."""
        own = self.quantized
        return made_recipe(
            own.origin,
            own.calibrated,
            own.made,
            config,
            run=self._run,
            float_layers=(*own.float_layers, *layers),
            outputs=own.outputs,
            **figures,
        )


def graph_steps(graph: SizedGraph) -> Iterator[Step]:
    """Yield the nodes of an ONNX graph.

    Args:
        graph: At the shape of one image.
    """
    yield from (Step((), (name,), _elements(graph, name), "") for name in graph.index.inputs)
    for node in graph.index.nodes:
        if node.op_type in _SHAPES:  # how large a tensor is crosses no border
            continue
        layer = graph.layers.get(node.name)
        yield Step(tuple(node.input), tuple(node.output), _elements(graph, node.output[0]), layer)


def _elements(graph: SizedGraph, tensor: str) -> int:
    shape = graph.shapes.get(tensor, ())
    return prod(shape[1:]) if shape else 0
