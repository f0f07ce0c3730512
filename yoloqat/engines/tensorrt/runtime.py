"""TensorRT's runtime as a predictor: one stream, page-locked memory, and a CUDA graph that is replayed."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np

from yoloqat.config.checks import check_int
from yoloqat.engines.inputs import checked_images
from yoloqat.engines.tensorrt.buffers import Shape, allocate, engine_tensors, output_shape
from yoloqat.engines.tensorrt.build import inspect, load_plan
from yoloqat.engines.tensorrt.cuda import Cuda
from yoloqat.engines.tensorrt.header import EngineFile, read_engine
from yoloqat.engines.tensorrt.inspector import EngineLayers, engine_layers
from yoloqat.engines.tensorrt.load import load_cuda, load_tensorrt
from yoloqat.engines.tensorrt.logs import hint_of, make_recorder, said
from yoloqat.engines.tensorrt.profile import InputProfile
from yoloqat.errors import EngineError
from yoloqat.predictor import Images, ModelInfo, RawOutputs


class TensorRTPredictor:
    """A detector run by TensorRT on a GPU.

    The first call of each image shape runs the engine once and captures it, with the copies to and from the device, as a
    CUDA graph; further calls replay the graph. Where an engine cannot be captured (loops, some accelerators), every call
    queues its work anew, and :attr:`not_captured` tells why.

    Args:
        path: An ``.engine`` that yoloqat or Ultralytics built.
        device: Index of the CUDA device.
        graph: Replay a CUDA graph; without it every call queues its work anew.
        tensorrt: The module ``tensorrt``; None imports it.
        cuda: The module ``cuda.bindings.runtime``; None imports it.

    Raises:
        ModelError: The file is missing or no engine.
        DependencyError: TensorRT or CUDA's bindings are not installed.
        EngineError: The engine cannot be loaded here, or there is too little memory.
        ConfigError: The device is negative.
    """

    def __init__(
        self, path: Path, *, device: int = 0, graph: bool = True, tensorrt: Any = None, cuda: Any = None
    ) -> None:
        check_int("device", device, 0)
        self._file: EngineFile = read_engine(Path(path))
        self._trt = load_tensorrt() if tensorrt is None else tensorrt
        runtime = load_cuda() if cuda is None else cuda
        self._cuda = Cuda(runtime, device)
        self._finalizer = weakref.finalize(self, self._cuda.free)
        self._recorder = make_recorder(self._trt)
        metadata = self._file.metadata
        self._engine = load_plan(
            self._trt,
            self._file.plan,
            self._recorder,
            dla=metadata.get("dla"),
            host_code=bool(self._file.own.get("version_compatible")),
        )
        source, outputs = engine_tensors(self._trt, self._engine)
        low, usual, high = (
            tuple(int(side) for side in shape) for shape in self._engine.get_tensor_profile_shape(source.name, 0)
        )
        self._profile = InputProfile(source.name, low, usual, high, dynamic=low != high)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(
                f"TensorRT cannot make an execution context ({said(self._recorder)})",
                expected="enough memory on the GPU",
                hint=hint_of(self._recorder.errors),
            )
        self._set(high)
        self._input = allocate(self._cuda, source, high)
        self._outputs = [allocate(self._cuda, x, output_shape(self._context, x.name)) for x in outputs]
        for buffer in (self._input, *self._outputs):
            self._check(self._context.set_tensor_address(buffer.tensor.name, buffer.address), "take an address")
        self._graphs, self._shape = graph, high
        self._graph: Any = None
        self._warm: Shape | None = None
        self._not_captured: str | None = None if graph else "not asked for"

    @property
    def info(self) -> ModelInfo:
        """Names, stride and fixed shapes of the model."""
        return self._file.info

    @property
    def profile(self) -> InputProfile:
        """The shapes the engine takes."""
        return self._profile

    @property
    def not_captured(self) -> str | None:
        """Why no CUDA graph is replayed, or None where one is."""
        return self._not_captured

    @property
    def layers(self) -> EngineLayers:
        """What the engine runs in which precision; its convolutions are known by name where yoloqat built it."""
        own = self._file.own
        text = inspect(self._trt, self._engine, self._profile)
        return engine_layers(text, own.get("convolutions", {}), own.get("quantized_layers", ()))

    def __call__(self, images: Images) -> RawOutputs:
        """Run the engine once on ``images`` and return its outputs in the engine's order.

        Raises:
            EngineError: The images lie outside the shapes the engine was built for, or it fails.
        """
        checked = checked_images(images, self.info)
        shape = tuple(checked.shape)
        if not self._profile.holds(shape):
            raise EngineError(
                f"images have the shape {shape}",
                expected=f"from {self._profile.low} to {self._profile.high}, as the engine was built",
                hint="set `batch` and `imgsz` within, or build it for more",
            )
        if shape != self._warm:
            self._prepare(shape)
        np.copyto(self._input.view(shape), checked, casting="same_kind")
        if self._graph is not None:
            self._cuda.launch(self._graph)
        else:
            self._enqueue()
        self._cuda.wait()
        return [
            buffer.view(output_shape(self._context, buffer.tensor.name)).astype(np.float32) for buffer in self._outputs
        ]

    def close(self) -> None:
        """Free the memory on the device and on the host; the predictor cannot be called afterwards."""
        self._drop_graph()
        self._finalizer()

    def _check(self, done: bool, what: str) -> None:
        if not done:
            raise EngineError(
                f"TensorRT cannot {what} ({said(self._recorder)})",
                expected="an engine that runs on this device",
                hint=hint_of(self._recorder.errors),
            )

    def _set(self, shape: Shape) -> None:
        self._check(self._context.set_input_shape(self._profile.name, shape), f"take the shape {shape}")
        self._shape = shape

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._cuda.forget(self._graph)
            self._graph = None

    def _prepare(self, shape: Shape) -> None:
        """Run once, as TensorRT allocates on its first run of a shape, then capture."""
        self._drop_graph()
        self._warm = None
        self._set(shape)
        self._enqueue()
        self._cuda.wait()
        if self._graphs:
            try:
                self._graph = self._cuda.captured(self._enqueue)
                self._not_captured = None
            except EngineError as error:
                self._not_captured = error.what
        self._warm = shape

    def _enqueue(self) -> None:
        self._cuda.to_device(self._input.address, self._input.view(self._shape))
        self._check(self._context.execute_async_v3(self._cuda.handle), "run the engine")
        for buffer in self._outputs:
            self._cuda.to_host(buffer.view(output_shape(self._context, buffer.tensor.name)), buffer.address)
