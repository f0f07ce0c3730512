"""OpenVINO's CPU runtime: compiled for latency or for throughput, from a cache where one is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from yoloqat.config.checks import check_int
from yoloqat.engines.inputs import checked_images
from yoloqat.engines.openvino_files import read_file
from yoloqat.engines.openvino_import import import_openvino
from yoloqat.engines.precision import PrecisionMap, precision_map
from yoloqat.errors import ConfigError, EngineError
from yoloqat.predictor import Images, ModelInfo, RawOutputs

Hint = Literal["latency", "throughput"]
_HINTS = ("latency", "throughput")


def compile_model(model: Any, *, threads: int, hint: str, cache_dir: Path | None = None, profiled: bool = False) -> Any:
    """Compile an `openvino.Model` for the CPU; what is not quantized stays float32, whatever the processor offers.

    Args:
        model: The model.
        threads: Threads in all.
        hint: ``"latency"`` or ``"throughput"``.
        cache_dir: Directory in which OpenVINO keeps compiled models, by their contents and settings. It compiles
            again where a file of the cache is damaged or of another version.
        profiled: Let it count the time of every node.

    Raises:
        ConfigError: ``threads`` is below 1, or the hint is unknown.
        EngineError: OpenVINO cannot compile it, or cannot write the cache.
    """
    check_int("threads", threads, 1)
    if hint not in _HINTS:
        raise ConfigError(f"hint is {hint!r}", expected=f"one of {', '.join(_HINTS)}", hint="choose one of them")
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": hint.upper(),
        "PERF_COUNT": profiled,
    }
    if cache_dir is not None:
        _make(cache_dir)
        settings["CACHE_DIR"] = str(cache_dir)
    try:
        return import_openvino().Core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise EngineError(
            f"OpenVINO cannot compile the model ({error!s:.300})",
            expected="a model for its CPU",
            hint="export it again",
        ) from error


@contextmanager
def _told(images: Images) -> Iterator[None]:
    """Turn what OpenVINO raises while it runs into one line."""
    try:
        yield
    except RuntimeError as error:
        raise EngineError(
            f"OpenVINO cannot run the model on images of shape {images.shape} ({error!s:.300})",
            expected="images that fit the model",
            hint="export the model again",
        ) from error


def _make(cache_dir: Path) -> None:
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(
            f"cannot make the cache '{cache_dir}' ({error.strerror or error})",
            expected="a directory that can be written",
            hint="name another one, or none",
        ) from error


class OpenVINOPredictor:
    """A detector run by OpenVINO on the CPU.

    Args:
        path: A directory that :func:`yoloqat.engines.build_openvino` or Ultralytics wrote, or an ONNX file, which is
            run as it is.
        threads: Threads in all.
        hint: ``"latency"`` gives one image all threads, ``"throughput"`` lets OpenVINO form streams.
        cache_dir: Directory for compiled models, so that the next start is faster; None compiles each time.

    Raises:
        ModelError: The directory or file is missing, damaged or of another kind.
        EngineError: OpenVINO cannot compile it, or the cache cannot be made.
        ConfigError: ``threads`` is below 1, or the hint is unknown.
    """

    def __init__(self, path: Path, *, threads: int = 1, hint: Hint = "latency", cache_dir: Path | None = None) -> None:
        file = read_file(Path(path))
        self._info, self._quantized = file.info, file.quantized
        self._compiled = compile_model(file.model, threads=threads, hint=hint, cache_dir=cache_dir)
        self._requests = [self._compiled.create_infer_request()]

    @property
    def info(self) -> ModelInfo:
        """Names, stride and fixed shapes of the model."""
        return self._info

    @property
    def precision(self) -> PrecisionMap:
        """What the runtime runs in which precision."""
        return precision_map(self._compiled, quantized=self._quantized)

    @property
    def loaded_from_cache(self) -> bool:
        """Whether the compiled model came from the cache."""
        return bool(self._compiled.get_property("LOADED_FROM_CACHE"))

    @property
    def requests(self) -> int:
        """Requests in flight that OpenVINO holds best for the hint, at least 1."""
        return max(1, int(self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))

    def __call__(self, images: Images) -> RawOutputs:
        """Run the model once on ``images`` and return its outputs in the graph's order.

        Raises:
            EngineError: The images do not have the model's fixed shape, or OpenVINO cannot run it.
        """
        checked = checked_images(images, self._info)
        with _told(checked):
            results = self._requests[0].infer([checked])
        return [np.array(results[port], dtype=np.float32) for port in self._compiled.outputs]

    def stream(self, images: Images, calls: int) -> list[float]:
        """Run the model ``calls`` times on the same images, with as many requests in flight as suit the hint.

        Returns:
            Seconds of each call, from its start to its end, in the order of their starts.

        Raises:
            ConfigError: ``calls`` is below 1.
            EngineError: The images do not have the model's fixed shape, or OpenVINO cannot run it.
        """
        check_int("calls", calls, 1)
        checked = checked_images(images, self._info)
        while len(self._requests) < self.requests:
            self._requests.append(self._compiled.create_infer_request())
        seconds = []
        with _told(checked):
            for call in range(calls + len(self._requests)):
                request = self._requests[call % len(self._requests)]
                if len(self._requests) <= call:
                    request.wait()
                    seconds.append(request.latency / 1e3)
                if call < calls:
                    request.start_async([checked])
        return seconds
