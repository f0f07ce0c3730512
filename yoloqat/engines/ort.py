"""ONNX Runtime: on the CPU the reference that every other engine is compared with, elsewhere its own providers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloqat.config.checks import check_int
from yoloqat.engines.built_in_conf import onnx_file_info
from yoloqat.engines.inputs import checked_images
from yoloqat.engines.ort_import import import_onnxruntime
from yoloqat.errors import DependencyError, EngineError, ModelError
from yoloqat.onnx_graph.file import load_onnx
from yoloqat.predictor import Images, ModelInfo, RawOutputs

onnxruntime = import_onnxruntime()

CPU = "CPUExecutionProvider"
_GPU = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
_FATAL_ONLY = 4  # errors are raised

Provider = tuple[str, dict[str, str]]


def session_options(*, threads: int, optimize: bool = True) -> Any:
    """Return options under which the same file, input and thread count give the same bits.

    Args:
        threads: Threads inside one operator; sums are split by it, so another count gives other roundings.
        optimize: Let ONNX Runtime fuse nodes; without it every node is computed as it is written.

    Raises:
        ConfigError: ``threads`` is below 1.
    """
    check_int("threads", threads, 1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = _FATAL_ONLY
    # threads that wait for the next call by spinning would take the cores from whatever is timed in between
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def providers_for(device: str, available: Sequence[str]) -> list[Provider]:
    """Return ONNX Runtime's execution providers for a device, the preferred one first.

    On a GPU that is TensorRT where it is installed, then CUDA; the CPU takes what they cannot run.

    Args:
        device: ``"cpu"`` or the index of a CUDA device, e.g. ``"0"`` or ``"cuda:0"``.
        available: What `onnxruntime.get_available_providers()` returns.

    Raises:
        DependencyError: A GPU is asked for and ONNX Runtime has no provider for it.
        EngineError: The device is of another kind.
    """
    if device == "cpu":
        return [(CPU, {})]
    index = "0" if device == "cuda" else device.removeprefix("cuda:")
    if not index.isdecimal():
        raise EngineError(
            f"ONNX Runtime is asked to run on '{device}'",
            expected="cpu or a CUDA index",
            hint="choose one with `device`",
        )
    found = [name for name in _GPU if name in available]
    if not found:
        raise DependencyError(
            f"ONNX Runtime has the providers {', '.join(available)}",
            expected=f"{' or '.join(_GPU)} for device {device}",
            hint="pip install onnxruntime-gpu in place of onnxruntime, or run on the cpu",
        )
    return [*((name, {"device_id": index}) for name in found), (CPU, {})]


def open_session(model: str | bytes, source: str, options: Any, providers: Sequence[Provider] = ((CPU, {}),)) -> Any:
    """Load a model into ONNX Runtime.

    Args:
        model: Its path, or its bytes.
        source: What errors name.
        options: See :func:`session_options`.
        providers: See :func:`providers_for`.

    Raises:
        ModelError: ONNX Runtime cannot load it.
    """
    try:
        return onnxruntime.InferenceSession(model, options, providers=list(providers))
    except Exception as error:  # its errors share no other base class
        raise ModelError(
            f"ONNX Runtime cannot load '{source}' ({error})",
            expected="operators that ONNX Runtime has",
            hint="export it with another opset",
        ) from error


def run_session(session: Any, images: Images, outputs: Sequence[str] | None = None) -> list[NDArray[np.generic]]:
    """Run a model on images and return its outputs, or those named.

    Raises:
        EngineError: ONNX Runtime cannot run it: its shapes do not fit each other, or the images do not fit it.
    """
    try:
        return list(session.run(outputs, {session.get_inputs()[0].name: images}))
    except Exception as error:  # its errors share no other base class
        raise EngineError(
            f"ONNX Runtime cannot run the model on images of shape {images.shape} ({error})",
            expected="a graph whose shapes fit each other and the images",
            hint="export the model again",
        ) from error


class OnnxPredictor:
    """An ONNX detector run by ONNX Runtime.

    Args:
        path: An ONNX file with Ultralytics' metadata.
        threads: Threads inside one operator, on the CPU.
        optimize: Let ONNX Runtime fuse nodes.
        device: ``"cpu"`` or the index of a CUDA device.

    Raises:
        ModelError: The file is missing, no ONNX, lacks metadata, or ONNX Runtime cannot load it.
        ConfigError: ``threads`` is below 1.
        DependencyError: ONNX Runtime has no provider for the device.
        EngineError: It has one, which does not start.
    """

    def __init__(self, path: Path, *, threads: int = 1, optimize: bool = True, device: str = "cpu") -> None:
        path = Path(path)
        options = session_options(threads=threads, optimize=optimize)
        wanted = providers_for(device, onnxruntime.get_available_providers())
        model = load_onnx(path)
        self._info = onnx_file_info(str(path), model)
        self._session = open_session(str(path), str(path), options, wanted)
        feed = self._session.get_inputs()[0]
        if feed.type != "tensor(float)":
            raise ModelError(
                f"the input of '{path}' is {feed.type}", expected="tensor(float)", hint="export it with float32 inputs"
            )
        if device != "cpu" and self.providers[0] == CPU:  # ONNX Runtime falls back without a word
            raise EngineError(
                f"none of ONNX Runtime's {', '.join(name for name, _ in wanted[:-1])} starts on device {device}",
                expected="a CUDA device and its libraries",
                hint="check that `nvidia-smi` shows the device, or run on the cpu",
            )

    @property
    def info(self) -> ModelInfo:
        """Names, stride and fixed shapes of the model."""
        return self._info

    @property
    def providers(self) -> tuple[str, ...]:
        """The execution providers in use, the preferred one first."""
        return tuple(self._session.get_providers())

    def __call__(self, images: Images) -> RawOutputs:
        """Run the model once on ``images`` and return its outputs in the graph's order.

        Raises:
            EngineError: The images do not have the model's fixed shape, or ONNX Runtime cannot run it.
        """
        outputs = run_session(self._session, checked_images(images, self._info))
        return [np.asarray(output, dtype=np.float32) for output in outputs]
