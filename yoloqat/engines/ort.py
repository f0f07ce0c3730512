"""ONNX Runtime on the CPU: the reference that every other engine is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from yoloqat.config.checks import check_int
from yoloqat.engines.inputs import checked_images
from yoloqat.engines.onnx_file import input_shape, load_onnx, model_info, properties
from yoloqat.errors import ModelError
from yoloqat.predictor import Images, ModelInfo, RawOutputs

_ERRORS_ONLY = 3


def session_options(*, threads: int, optimize: bool = True) -> onnxruntime.SessionOptions:
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
    options.log_severity_level = _ERRORS_ONLY
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


class OnnxPredictor:
    """An ONNX detector run by ONNX Runtime on the CPU.

    Args:
        path: An ONNX file with Ultralytics' metadata.
        threads: Threads inside one operator.
        optimize: Let ONNX Runtime fuse nodes.

    Raises:
        ModelError: The file is missing, no ONNX, lacks metadata, or ONNX Runtime cannot load it.
        ConfigError: ``threads`` is below 1.
    """

    def __init__(self, path: Path, *, threads: int = 1, optimize: bool = True) -> None:
        path = Path(path)
        options = session_options(threads=threads, optimize=optimize)
        model = load_onnx(path)
        self._info = model_info(str(path), properties(model), input_shape(model))
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no other base class
            raise ModelError(
                f"ONNX Runtime cannot load '{path}' ({error})",
                expected="operators that ONNX Runtime has",
                mend="export it with another opset",
            ) from error
        feed = self._session.get_inputs()[0]
        if feed.type != "tensor(float)":
            raise ModelError(
                f"the input of '{path}' is {feed.type}", expected="tensor(float)", mend="export it with float32 inputs"
            )
        self._input = feed.name

    @property
    def info(self) -> ModelInfo:
        """Names, stride and fixed shapes of the model."""
        return self._info

    def __call__(self, images: Images) -> RawOutputs:
        """Run the model once on ``images`` and return its outputs in the graph's order.

        Raises:
            EngineError: The images do not have the model's fixed shape.
        """
        outputs = self._session.run(None, {self._input: checked_images(images, self._info)})
        return [np.asarray(output, dtype=np.float32) for output in outputs]
