"""OpenVINO on the CPU: build an INT8 model from a QDQ ONNX, and see what it really runs in integers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from yoloqat.config.checks import check_fraction
from yoloqat.engines.built_in_conf import onnx_file_info
from yoloqat.engines.openvino_files import XML, read_model, save_model, write_metadata
from yoloqat.engines.openvino_runtime import compile_model
from yoloqat.engines.precision import PrecisionMap, precision_map
from yoloqat.engines.rewrite.normal_form import normal_form
from yoloqat.engines.rewrite.propagate import propagate_quantizers
from yoloqat.engines.rewrite.split import split_weights
from yoloqat.engines.rewrite.to_uint8 import to_uint8
from yoloqat.engines.saturation import Overflow, cpu_saturates, image_layers, overflow_risk
from yoloqat.onnx_graph.file import load_onnx, properties, quantized_layers
from yoloqat.provenance import atomic_directory, file_sha256

SPLIT_ABOVE = 0.04
"""Below this share of pairs that can overflow, activations hardly ever make them: few are near the end of their range, and
fewer are neighbours. YOLOv8n with asymmetric ranges, whose layers can all overflow, has the same mAP whether the one, the three
or all 56 of the most endangered layers are split."""

SPLIT_IMAGE_ABOVE = 1e-3
"""The same for layers that read the image: white pixels have the highest integer, in all channels."""


@dataclass(frozen=True)
class OpenVINOBuild:
    """What was built.

    Attributes:
        precision: What the runtime runs in which precision, on this machine.
        saturates: Whether 8-bit convolutions saturate in 16 bits on this machine.
        overflow: By layer as built, how many pairs of products can saturate where the processor does.
        split: Names of the layers that were split in two, so that they cannot.
    """

    precision: PrecisionMap
    saturates: bool
    overflow: dict[str, Overflow]
    split: tuple[str, ...]


class Guard(TypedDict):
    """How :func:`build_openvino` keeps sums of 8 bits from saturating, as it takes it."""

    tight: bool
    split_above: float


def guard(*, vnni: bool, split_above: float = SPLIT_ABOVE) -> Guard:
    """Return the guard of an engine.

    Args:
        vnni: It will run on processors with VNNI alone, whose sums do not saturate: there is none.
        split_above: Otherwise as :func:`build_openvino` takes it.
    """
    return {"tight": not vnni, "split_above": 1.0 if vnni else split_above}


def build_openvino(
    onnx_path: Path, out_dir: Path, *, threads: int = 1, tight: bool = True, split_above: float = SPLIT_ABOVE
) -> OpenVINOBuild:
    """Build an OpenVINO model from an ONNX file; a QDQ file becomes INT8, a float file stays float.

    Signed activations are rewritten to unsigned ones by the same arithmetic, see :mod:`yoloqat.engines.rewrite.to_uint8`.

    Args:
        onnx_path: The ONNX file, with Ultralytics' metadata.
        out_dir: The directory that takes ``model.xml``, ``model.bin``, ``metadata.json`` and, for Ultralytics,
            ``metadata.yaml``.
        threads: Threads of the trial that tells the precisions.
        tight: Use the least zero-points, so that processors without VNNI overflow hardly ever; see :class:`Overflow`.
        split_above: Split a convolution into two where more than this share of its pairs of products can overflow, at
            twice its cost; of layers that read the image at most :data:`SPLIT_IMAGE_ABOVE`. 0 makes every sum exact on any
            processor, 1 splits none.

    Raises:
        ConfigError: ``split_above`` is no share.
        ModelError: The file is missing, no ONNX, lacks metadata, or OpenVINO cannot read it.
        EngineError: OpenVINO cannot compile it.
        OutputError: The directory cannot be written.
    """
    check_fraction("split_above", split_above)
    onnx_path, out_dir = Path(onnx_path), Path(out_dir)
    source = load_onnx(onnx_path)
    info = onnx_file_info(str(onnx_path), source)
    graph = normal_form(source)
    quantized = quantized_layers(graph)
    unsigned = to_uint8(graph, tight=tight)
    strict = image_layers(unsigned.model) if split_above < 1 else frozenset()
    split = tuple(
        name
        for name, risk in overflow_risk(unsigned.model).items()
        if risk.share > (min(split_above, SPLIT_IMAGE_ABOVE) if name in strict else split_above)
    )
    safe = split_weights(unsigned.model, split)
    model = read_model(str(onnx_path), propagate_quantizers(safe).SerializeToString())
    with atomic_directory(out_dir) as temporary:
        write_metadata(
            temporary,
            info,
            properties(source),
            quantized_layers=quantized,
            zero_points=unsigned.zero_points,
            split_layers=split,
            source_sha256=file_sha256(onnx_path),
        )
        written = save_model(model, temporary / XML, out_dir)
        precision = precision_map(compile_model(written, threads=threads, hint="latency"), quantized=quantized)
    return OpenVINOBuild(precision, cpu_saturates(), overflow_risk(safe), split)
