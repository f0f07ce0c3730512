"""The equivalent integer graph of a QDQ ONNX file for ONNX Runtime: ranges measured, file written, operators counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import helper

from yoloqat.engines.model_info import model_info
from yoloqat.engines.ort import open_session, run_session, session_options
from yoloqat.engines.precision import LayerPrecision, PrecisionMap
from yoloqat.engines.rewrite.equivalent import Range, equivalent_graph, plan_equivalent
from yoloqat.engines.rewrite.normal_form import normal_form
from yoloqat.errors import CalibrationError, ModelError
from yoloqat.onnx_graph.file import input_shape, load_onnx, properties, quantized_layers, read_onnx, set_properties
from yoloqat.onnx_graph.graph import copy_of
from yoloqat.onnx_graph.macs import convolution_macs
from yoloqat.predictor import Images
from yoloqat.provenance import atomic_path, file_sha256

KEY = "yoloqat_twin"
"""Metadata of a file that is such a graph, by the name that files of 0.1.0 hold."""
_INTEGER = frozenset({"QLinearConv"})


@dataclass(frozen=True)
class OrtBuild:
    """What was built.

    Attributes:
        precision: The convolutions that ONNX Runtime runs in integers and in float, on this machine.
        operators: How many nodes of each type the optimised graph has.
        measured: Range of each tensor that the file itself gives none.
    """

    precision: PrecisionMap
    operators: Mapping[str, int]
    measured: Mapping[str, Range]


def measure_ranges(
    model: onnx.ModelProto,
    tensors: Iterable[str],
    images: Iterable[Images],
    *,
    threads: int = 1,
    source: str = "the graph",
) -> dict[str, Range]:
    """Run a graph on images and return the least and the greatest value of each tensor.

    Args:
        model: A QDQ graph; it is not changed.
        tensors: Names of tensors in it.
        images: Batches that the model takes.
        threads: Threads inside one operator.
        source: What errors name.

    Raises:
        CalibrationError: There is no image, or a tensor holds NaN or infinity.
        ModelError: ONNX Runtime cannot load the graph.
        EngineError: ONNX Runtime cannot run it on an image.
    """
    names = list(tensors)
    observed = copy_of(model)
    known = {value.name for value in observed.graph.output}
    observed.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names if name not in known)
    session = open_session(observed.SerializeToString(), source, session_options(threads=threads))
    spans: dict[str, Range] = {}
    batches = 0
    for batch in images:
        batches += 1
        for name, value in zip(names, run_session(session, batch, names or None), strict=bool(names)):
            low, high = float(value.min()), float(value.max())
            if not np.isfinite(low + high):
                raise CalibrationError(
                    f"tensor '{name}' holds values from {low} to {high}",
                    expected="finite values",
                    hint="check the model and the calibration images",
                )
            before = spans.get(name, (low, high))
            spans[name] = (min(low, before[0]), max(high, before[1]))
    if not batches:
        raise CalibrationError(
            f"there are {batches} images to measure ranges on", expected="at least one", hint="name some"
        )
    return spans


def build_onnxruntime(
    onnx_path: Path, out_path: Path, images: Iterable[Images], *, threads: int = 1, highest: int = 127
) -> OrtBuild:
    """Write the equivalent graph of a QDQ ONNX file that ONNX Runtime's CPU kernels run in integers.

    Args:
        onnx_path: The QDQ ONNX file, with Ultralytics' metadata.
        out_path: The ONNX file to write.
        images: Calibration batches of the model's own shape; the ranges that the file does not tell are theirs.
        threads: Threads inside one operator.
        highest: See :func:`yoloqat.engines.rewrite.equivalent.equivalent_graph`.

    Raises:
        ModelError: The file is missing, no ONNX, lacks metadata, or quantizes nothing; ONNX Runtime cannot load it or
            its equivalent graph.
        CalibrationError: There is no image, or a value is not finite.
        EngineError: ONNX Runtime cannot run it on an image.
        OutputError: The file cannot be written.
    """
    source = normal_form(load_onnx(Path(onnx_path)))
    model_info(str(onnx_path), properties(source), input_shape(source))
    quantized = quantized_layers(source)
    if not quantized:
        raise ModelError(
            f"'{onnx_path}' quantizes {len(quantized)} layers",
            expected="a QDQ ONNX file",
            hint="export a calibrated checkpoint",
        )
    ranges = measure_ranges(source, plan_equivalent(source).measured, images, threads=threads, source=str(onnx_path))
    graph = equivalent_graph(source, ranges, highest=highest)
    metadata = properties(source) | {KEY: repr({"source_sha256": file_sha256(Path(onnx_path)), "highest": highest})}
    set_properties(graph, metadata)
    optimised = _optimised(graph, str(onnx_path), threads=threads)
    with atomic_path(Path(out_path)) as temporary:
        onnx.save(graph, temporary)
    operators = Counter(node.op_type for node in optimised.graph.node)
    return OrtBuild(ort_precision(optimised, source, quantized), dict(operators), ranges)


def _optimised(model: onnx.ModelProto, source: str, *, threads: int) -> onnx.ModelProto:
    """Return the graph that ONNX Runtime really runs on this machine."""
    with TemporaryDirectory(prefix="yoloqat-") as folder:
        options = session_options(threads=threads)
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        open_session(model.SerializeToString(), f"the integer graph of {source}", options)
        return read_onnx(Path(options.optimized_model_filepath))


def ort_precision(optimised: onnx.ModelProto, source: onnx.ModelProto, quantized: Iterable[str]) -> PrecisionMap:
    """Return which convolutions of a file ONNX Runtime runs in integers.

    Args:
        optimised: The graph as ONNX Runtime optimised it; it keeps a fused node's name and adds ``_token_`` and a number.
        source: The graph that it came from, whose static shapes give the multiply-adds.
        quantized: Names of the layers that the file quantizes.
    """
    fused = {
        n.name.rpartition("_token_")[0] or n.name: n.op_type for n in optimised.graph.node if n.op_type in _INTEGER
    }
    layers = [
        LayerPrecision(name, "Convolution", "u8" if name in fused else "f32", fused.get(name, "Conv"), macs)
        for name, macs in convolution_macs(source, frozenset({"Conv"})).items()
    ]
    return PrecisionMap(tuple(layers), frozenset(quantized))
