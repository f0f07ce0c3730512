"""OpenVINO on the CPU: build an INT8 model from a QDQ ONNX, run it, and see what it really runs in integers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from yoloqat.config.checks import check_fraction, check_int
from yoloqat.engines.inputs import checked_images
from yoloqat.engines.onnx_file import input_shape, load_onnx, model_info, properties, quantized_layers
from yoloqat.engines.openvino_import import import_openvino
from yoloqat.engines.precision import PrecisionMap, precision_map
from yoloqat.engines.saturation import Overflow, cpu_saturates, overflow_risk
from yoloqat.engines.split import split_weights
from yoloqat.engines.unsigned import unsigned_twin
from yoloqat.errors import ConfigError, EngineError, ModelError, OutputError
from yoloqat.predictor import Images, ModelInfo, RawOutputs
from yoloqat.provenance import atomic_directory, file_sha256

Hint = Literal["latency", "throughput"]
SCHEMA = {"name": "yoloqat-openvino", "version": 1}
_XML, _METADATA = "model.xml", "metadata.json"
SPLIT_ABOVE = 1e-3
"""Below this share of pairs that can overflow, both of them hardly ever meet their highest codes at once."""
_HINTS = ("latency", "throughput")


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


def _compile(model: Any, *, threads: int, hint: str) -> Any:
    check_int("threads", threads, 1)
    if hint not in _HINTS:
        raise ConfigError(f"hint is {hint!r}", expected=f"one of {', '.join(_HINTS)}", mend="choose one of them")
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # what is not quantized stays float32, whatever the processor offers
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": hint.upper(),
    }
    try:
        return import_openvino().Core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise EngineError(
            f"OpenVINO cannot compile the model ({error})", expected="a model for its CPU", mend="export it again"
        ) from error


def _read(source: str, data: str | bytes) -> Any:
    try:
        return import_openvino().Core().read_model(data)
    except RuntimeError as error:
        raise ModelError(
            f"OpenVINO cannot read '{source}' ({error})", expected="an ONNX file or its own IR", mend="export it again"
        ) from error


def build_openvino(
    onnx_path: Path, out_dir: Path, *, threads: int = 1, tight: bool = True, split_above: float = SPLIT_ABOVE
) -> OpenVINOBuild:
    """Build an OpenVINO model from an ONNX file; a QDQ file becomes INT8, a float file stays float.

    Signed activations are rewritten to unsigned ones by the same arithmetic, see :mod:`yoloqat.engines.unsigned`.

    Args:
        onnx_path: The ONNX file, with Ultralytics' metadata.
        out_dir: The directory that takes ``model.xml``, ``model.bin`` and ``metadata.json``.
        threads: Threads of the trial that tells the precisions.
        tight: Use the least zero-points, so that processors without VNNI overflow hardly ever; see :class:`Overflow`.
        split_above: Split a convolution into two where more than this share of its pairs of products can overflow, at
            twice its cost; 1 splits none. The built directory is then safe on any processor.

    Raises:
        ConfigError: ``split_above`` is no share.
        ModelError: The file is missing, no ONNX, lacks metadata, or OpenVINO cannot read it.
        EngineError: OpenVINO cannot compile it.
        OutputError: The directory cannot be written.
    """
    check_fraction("split_above", split_above)
    onnx_path, out_dir = Path(onnx_path), Path(out_dir)
    source = load_onnx(onnx_path)
    info = model_info(str(onnx_path), properties(source), input_shape(source))
    quantized = quantized_layers(source)
    twin = unsigned_twin(source, tight=tight)
    split = tuple(name for name, risk in overflow_risk(twin.model).items() if risk.share > split_above)
    safe = split_weights(twin.model, split)
    model = _read(str(onnx_path), safe.SerializeToString())
    metadata = {
        "schema": SCHEMA,
        "info": asdict(info),
        "quantized_layers": quantized,
        "zero_points": twin.zero_points,
        "split_layers": split,
        "source_sha256": file_sha256(onnx_path),
    }
    with atomic_directory(out_dir) as temporary:
        (temporary / _METADATA).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
        written = _saved(model, temporary / _XML, out_dir)
        precision = precision_map(_compile(written, threads=threads, hint="latency"), quantized=quantized)
    return OpenVINOBuild(precision, cpu_saturates(), overflow_risk(safe), split)


def _saved(model: Any, xml: Path, out_dir: Path) -> Any:
    """Write ``model`` and return it as read back: OpenVINO does not notice when the disk cuts its weights short."""
    openvino = import_openvino()
    try:
        openvino.save_model(model, str(xml), compress_to_fp16=False)
        return openvino.Core().read_model(str(xml))
    except RuntimeError as error:
        raise OutputError(
            f"cannot write '{out_dir}' ({error})",
            expected="a writable path with enough free space",
            mend="free space there or name another directory with --out",
        ) from error


def _info_from_json(data: dict[str, Any]) -> ModelInfo:
    fields = dict(data)
    fields["names"] = {int(key): str(name) for key, name in fields["names"].items()}
    fields["imgsz"] = None if fields["imgsz"] is None else (int(fields["imgsz"][0]), int(fields["imgsz"][1]))
    return ModelInfo(**fields)


def _load_directory(path: Path) -> tuple[Any, ModelInfo, list[str]]:
    sidecar = path / _METADATA
    try:
        metadata = json.loads(sidecar.read_text(encoding="utf-8"))
        info, quantized = _info_from_json(metadata["info"]), [str(name) for name in metadata["quantized_layers"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"cannot read '{sidecar}' ({type(error).__name__}: {error})",
            expected="a directory that yoloqat built",
            mend="build it again with yoloqat build --engine openvino",
        ) from error
    return _read(str(path), str(path / _XML)), info, quantized


def _load_onnx(path: Path) -> tuple[Any, ModelInfo, list[str]]:
    source = load_onnx(path)
    info = model_info(str(path), properties(source), input_shape(source))
    return _read(str(path), str(path)), info, quantized_layers(source)


class OpenVINOPredictor:
    """A detector run by OpenVINO on the CPU.

    Args:
        path: A directory that :func:`build_openvino` wrote, or an ONNX file, which is run as it is.
        threads: Threads in all.
        hint: ``"latency"`` gives one image all threads, ``"throughput"`` lets OpenVINO form streams.

    Raises:
        ModelError: The directory or file is missing, damaged or of another kind.
        EngineError: OpenVINO cannot compile it.
        ConfigError: ``threads`` is below 1, or the hint is unknown.
    """

    def __init__(self, path: Path, *, threads: int = 1, hint: Hint = "latency") -> None:
        path = Path(path)
        model, self._info, self._quantized = (_load_onnx if path.suffix == ".onnx" else _load_directory)(path)
        self._compiled = _compile(model, threads=threads, hint=hint)
        self._request = self._compiled.create_infer_request()

    @property
    def info(self) -> ModelInfo:
        """Names, stride and fixed shapes of the model."""
        return self._info

    @property
    def precision(self) -> PrecisionMap:
        """What the runtime runs in which precision."""
        return precision_map(self._compiled, quantized=self._quantized)

    def __call__(self, images: Images) -> RawOutputs:
        """Run the model once on ``images`` and return its outputs in the graph's order.

        Raises:
            EngineError: The images do not have the model's fixed shape.
        """
        results = self._request.infer([checked_images(images, self._info)])
        return [np.array(results[port], dtype=np.float32) for port in self._compiled.outputs]
