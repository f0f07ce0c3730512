"""The few calls of CUDA's runtime that an engine needs, checked: memory, one stream, and a graph captured from it.

Source: `cuda.bindings.runtime`, where every call returns a tuple whose first entry is the error.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from yoloqat.errors import EngineError


def use_device(runtime: Any, device: int) -> None:
    """Make a CUDA device the one that this thread works on.

    Args:
        runtime: The module ``cuda.bindings.runtime``.
        device: Its index.

    Raises:
        EngineError: There is no such device.
    """
    checked(runtime, "cudaSetDevice", device)


def checked(runtime: Any, name: str, *arguments: Any) -> Any:
    """Call a function of the runtime and return what it gives beside the error.

    Raises:
        EngineError: It reports one.
    """
    error, *values = getattr(runtime, name)(*arguments)
    if error != runtime.cudaError_t.cudaSuccess:
        text = runtime.cudaGetErrorName(error)[1]
        raise EngineError(
            f"CUDA's {name} failed with {text.decode() if isinstance(text, bytes) else text}",
            expected="a free CUDA device",
            hint="check it with `nvidia-smi`, and that no other program fills its memory",
        )
    return values[0] if values else None


class Cuda:
    """A device, a stream on it, and what was allocated there.

    Args:
        runtime: The module ``cuda.bindings.runtime``.
        device: Index of the CUDA device.

    Raises:
        EngineError: There is no such device.
    """

    def __init__(self, runtime: Any, device: int = 0) -> None:
        self._runtime, self.device = runtime, device
        self._release: list[Callable[[], object]] = []
        use_device(runtime, device)
        self.stream = self.call("cudaStreamCreateWithFlags", int(runtime.cudaStreamNonBlocking))
        self._release.append(lambda: runtime.cudaStreamDestroy(self.stream))

    @property
    def handle(self) -> int:
        """The stream as TensorRT takes it."""
        return int(self.stream)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the runtime and return what it gives beside the error.

        Raises:
            EngineError: It reports one.
        """
        return checked(self._runtime, name, *arguments)

    def device_memory(self, size: int) -> int:
        """Return the address of ``size`` bytes on the device.

        Raises:
            EngineError: There is not so much.
        """
        address = int(self.call("cudaMalloc", max(1, size)))
        self._release.append(lambda: self._runtime.cudaFree(address))
        return address

    def pinned(self, count: int, dtype: DTypeLike) -> NDArray[Any]:
        """Return ``count`` values of page-locked host memory, which the device copies to and from by itself.

        Raises:
            EngineError: There is not so much.
        """
        kind = np.dtype(dtype)
        size = max(1, count * kind.itemsize)
        address = int(self.call("cudaMallocHost", size))
        self._release.append(lambda: self._runtime.cudaFreeHost(address))
        memory = memoryview((ctypes.c_byte * size).from_address(address)).cast("B")
        values: NDArray[Any] = np.frombuffer(memory, dtype=kind, count=count)
        return values

    def to_device(self, address: int, values: NDArray[Any]) -> None:
        """Queue a copy of pinned ``values`` to the device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", address, values.ctypes.data, values.nbytes, kind, self.stream)

    def to_host(self, values: NDArray[Any], address: int) -> None:
        """Queue a copy from the device into pinned ``values``."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", values.ctypes.data, address, values.nbytes, kind, self.stream)

    def wait(self) -> None:
        """Wait until all that is queued is done."""
        self.call("cudaStreamSynchronize", self.stream)

    def captured(self, enqueue: Callable[[], None]) -> Any:
        """Return a graph, ready to be launched, of what ``enqueue`` queues on the stream.

        Raises:
            EngineError: Something in it cannot be captured; the stream is as before.
        """
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("cudaStreamBeginCapture", self.stream, mode)
        try:
            enqueue()
        except BaseException:
            error, *partial = self._runtime.cudaStreamEndCapture(self.stream)  # or the stream would stay in capture
            if error == self._runtime.cudaError_t.cudaSuccess:
                self._runtime.cudaGraphDestroy(*partial)
            self._runtime.cudaGetLastError()  # clears the error that a spoilt capture leaves behind
            raise
        graph = self.call("cudaStreamEndCapture", self.stream)
        try:
            return self.call("cudaGraphInstantiate", graph, 0)
        finally:
            self._runtime.cudaGraphDestroy(graph)

    def launch(self, graph: Any) -> None:
        """Queue a captured graph."""
        self.call("cudaGraphLaunch", graph, self.stream)

    def forget(self, graph: Any) -> None:
        """Free a captured graph."""
        self.call("cudaGraphExecDestroy", graph)

    def free(self) -> None:
        """Free what was allocated, and the stream."""
        while self._release:
            self._release.pop()()
