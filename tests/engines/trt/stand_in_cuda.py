"""A stand-in for ``cuda.bindings.runtime`` that knows the real functions: host memory plays the device's."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stand_in_surface import Param, bind, enumeration, split

API = Path(__file__).parents[2] / "golden" / "cuda_runtime_api_13.5.0.json"


class Handle:
    """A stream, graph or executable graph, known to others by its number."""

    count = 100

    def __init__(self) -> None:
        Handle.count += 1
        self._number = Handle.count
        self.work: list[Callable[[], None]] = []
        self.capturing = False

    def __int__(self) -> int:
        return self._number


class FakeCuda:
    """The module: names and argument counts are real, every call returns a tuple that begins with the error.

    Attributes:
        fail: Names of functions to the name of the error they report.
        calls: Names of the functions called, in order.
    """

    def __init__(self) -> None:
        self._api: dict[str, Any] = json.loads(API.read_text())["api"]
        for name, entry in self._api.items():
            if isinstance(entry, dict):
                value = enumeration(name, entry["enum"]) if "enum" in entry else entry["constant"]
                setattr(self, name, value)
        self.fail: dict[str, str] = {}
        self.calls: list[str] = []
        self.memory: dict[int, tuple[Any, int, str]] = {}
        self.handles: dict[int, Handle] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._api:
            raise AttributeError(f"cuda.bindings.runtime has no '{name}'")
        # a parameter is written "name", "name: type" or as in C, "size_t size"
        texts = split(self._api[name].partition("(")[2].removesuffix(")"))
        params = [Param(text.split(":")[0].split()[-1], "", optional=False) for text in texts]

        def call(*arguments: Any, **named: Any) -> tuple[Any, ...]:
            bound = bind(name, params, arguments, named)
            self.calls.append(name)
            if name in self.fail:
                error = self.cudaError_t[self.fail[name]]
                return (error, None) if name != "cudaSetDevice" else (error,)
            answer = getattr(self, f"_{name}", None)
            if answer is None:
                raise NotImplementedError(f"{name} is real, but not simulated")
            found = answer(*bound.values())
            success = self.cudaError_t.cudaSuccess
            return (success,) if found is None else (success, found)

        return call

    @property
    def live(self) -> int:
        """Allocations, streams and graphs that nobody freed."""
        return len(self.memory) + len(self.handles)

    def view(self, address: int, size: int, *kinds: str) -> int:
        """Check that the bytes lie in one live allocation of the kind, and return the address."""
        for start, (_, length, kind) in self.memory.items():
            if start <= address and address + size <= start + length and kind in kinds:
                return address
        raise AssertionError(f"{size} bytes at {address:#x} are not in live memory of {kinds}")

    def queue(self, number: int, work: Callable[[], None]) -> bool:
        """Queue work on a stream and return whether it is only captured."""
        stream = self.handles[number]
        if stream.capturing:
            stream.work.append(work)
            return True
        work()
        return False

    def _allocate(self, size: int, kind: str) -> int:
        assert isinstance(size, int)
        assert size > 0
        buffer = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(buffer)] = (buffer, size, kind)
        return ctypes.addressof(buffer)

    def _release(self, address: int, kind: str) -> None:
        assert self.memory.pop(address)[2] == kind

    def _cudaSetDevice(self, device: int) -> None:
        assert device >= 0

    def _cudaStreamCreateWithFlags(self, flags: int) -> Handle:
        assert flags in (self.cudaStreamDefault, self.cudaStreamNonBlocking)
        return self._handle()

    def _handle(self) -> Handle:
        made = Handle()
        self.handles[int(made)] = made
        return made

    def _cudaStreamDestroy(self, stream: Handle) -> None:
        del self.handles[int(stream)]

    def _cudaMalloc(self, size: int) -> int:
        return self._allocate(size, "device")

    def _cudaMallocHost(self, size: int) -> int:
        return self._allocate(size, "host")

    def _cudaFree(self, address: int) -> None:
        self._release(address, "device")

    def _cudaFreeHost(self, address: int) -> None:
        self._release(address, "host")

    def _cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Any, stream: Handle) -> None:
        ends = {"cudaMemcpyHostToDevice": ("device", "host"), "cudaMemcpyDeviceToHost": ("host", "device")}[kind.name]
        self.view(dst, count, ends[0])
        self.view(src, count, ends[1])
        self.queue(int(stream), lambda: ctypes.memmove(dst, src, count))

    def _cudaStreamSynchronize(self, stream: Handle) -> None:
        assert not self.handles[int(stream)].capturing

    def _cudaStreamBeginCapture(self, stream: Handle, mode: Any) -> None:
        assert isinstance(mode, self.cudaStreamCaptureMode)
        stream.capturing, stream.work = True, []

    def _cudaStreamEndCapture(self, stream: Handle) -> Handle:
        assert stream.capturing
        graph = self._handle()
        graph.work, stream.work, stream.capturing = stream.work, [], False
        return graph

    def _cudaGraphInstantiate(self, graph: Handle, flags: int) -> Handle:
        assert flags == 0
        made = self._handle()
        made.work = list(self.handles[int(graph)].work)
        return made

    def _cudaGraphDestroy(self, graph: Handle) -> None:
        del self.handles[int(graph)]

    def _cudaGraphExecDestroy(self, graph: Handle) -> None:
        del self.handles[int(graph)]

    def _cudaGraphLaunch(self, graph: Handle, stream: Handle) -> None:
        assert int(stream) in self.handles
        for work in self.handles[int(graph)].work:
            work()

    def _cudaGetErrorName(self, error: Any) -> bytes:
        return error.name.encode()

    def _cudaGetLastError(self) -> None:
        return None
