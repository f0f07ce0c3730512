"""Read pickles as data: stand-ins replace the classes and functions they name; nothing is imported or called."""

from __future__ import annotations

import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import torch

DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,  # also undecodable text
    OverflowError,
    MemoryError,
    RecursionError,
    RuntimeError,
    OSError,
)
"""Exceptions that a damaged or malicious file can raise while it is read as data."""

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""The classes by which torch's format names element types."""

_PLAIN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}


class Inert:
    """Stand-in for an instance of a class that is not imported, and for the result of a pickled call.

    It keeps what the pickle gives it and does nothing else; called, it gives another of its kind.

    Attributes:
        kind: ``"module.Class"`` as the pickle names it.
        state: Argument of ``__setstate__`` in the pickle, or None.
    """

    kind = ""
    state: Any

    def __new__(cls, *_arguments: Any, **_keywords: Any) -> Inert:
        """Make a stand-in and ignore the arguments."""
        made: Inert = object.__new__(cls)
        made.state = None
        return made

    def __init__(self, *_arguments: Any, **_keywords: Any) -> None:
        """Ignore the arguments."""

    def __setstate__(self, state: Any) -> None:
        """Store the state unchanged."""
        self.state = state

    def __call__(self, *_arguments: Any) -> Inert:
        """Return a stand-in for the result of a call."""
        return Inert()

    def __setitem__(self, _key: Any, _value: Any) -> None:
        """Discard the items of a mapping."""

    def append(self, _value: Any) -> None:
        """Discard the items of a list."""

    def extend(self, _values: Any) -> None:
        """Discard the items of a list."""

    def add(self, _value: Any) -> None:
        """Discard the items of a set."""


class Held:
    """A tensor whose state a pickle cannot set, unlike that of a plain tensor.

    Attributes:
        tensor: The tensor; a storage is one with a single dimension.
    """

    __slots__ = ("tensor",)

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __setstate__(self, state: Any) -> None:
        """Refuse.

        Raises:
            pickle.UnpicklingError: Always.
        """
        raise pickle.UnpicklingError(f"state {state!r:.40} for a tensor")


class _Rebuild:
    """One of the few functions that a pickle may call. It cannot be given state."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"state {state!r:.40} for a function")


def _tensor(storage: Held, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_rest: Any) -> Held:
    """Return a view of a storage, after `torch._utils._rebuild_tensor_v2`.

    torch itself refuses a view that reaches beyond the storage; one that repeats elements could be made to fill memory.
    """
    view = torch.as_strided(storage.tensor, size, stride, offset)
    if view.numel() > storage.tensor.numel():
        raise pickle.UnpicklingError(f"a tensor of {view.numel()} elements in a storage of {storage.tensor.numel()}")
    return Held(view)


def _parameter(data: Any, *_rest: Any) -> Any:
    return data


class InertUnpickler(pickle.Unpickler):
    """Reads a pickle with stand-ins for everything but plain containers and tensors.

    Args:
        file: The pickle.
        storage: Maps a persistent id of torch's format, ``("storage", element type, key, device, elements, ...)``, to
            the one-dimensional tensor.
    """

    def __init__(self, file: BinaryIO, storage: Callable[[tuple[Any, ...]], torch.Tensor]) -> None:
        super().__init__(file)
        self._storage = storage
        self._stand_ins: dict[tuple[str, str], type[Inert]] = {}
        # made anew for every file: no pickle can leave anything behind for the next
        self._calls = {
            ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(_tensor),
            ("torch._utils", "_rebuild_parameter"): _Rebuild(_parameter),
        }

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a global, or the real class for plain containers."""
        key = (module, name)
        if key in _PLAIN:
            return _PLAIN[key]
        if key in self._calls:
            return self._calls[key]
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if key not in self._stand_ins:
            self._stand_ins[key] = type("StandIn", (Inert,), {"kind": f"{module}.{name}"})
        return self._stand_ins[key]

    def persistent_load(self, pid: Any) -> Any:
        """Return the storage that a persistent id names, or the class that the old format names with its source."""
        if isinstance(pid, tuple) and len(pid) == 4 and pid[0] == "module" and isinstance(pid[1], type):
            return pid[1]
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], torch.dtype)):
            raise pickle.UnpicklingError(f"the persistent id {pid!r:.60}")
        return Held(self._storage(pid))


def global_names(file: BinaryIO) -> Iterator[tuple[str, str]]:
    """Yield module and name of every global that a pickle names, without unpickling it.

    Raises:
        ValueError: It is no pickle, or is cut short.
    """
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            yield module, name
        elif opcode.name == "STACK_GLOBAL" and len(texts) >= 2:
            yield texts[-2], texts[-1]
        elif isinstance(argument, str):
            texts.append(argument)
