"""Modules that know only the names and signatures which a real package has, and refuse all else.

A name that the package lacks is an AttributeError, arguments that its signature does not take are a TypeError, and a call
of something real that no simulation answers is a NotImplementedError: each fails the test that meets it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OVERLOADS = {  # documented as *args, **kwargs; these are the overloads in the docstrings of both wheels
    "IExecutionContext.set_input_shape": "(self: IExecutionContext, name: str, shape: Dims) -> bool",
    "ICudaEngine.create_execution_context": "(self: ICudaEngine, strategy: ExecutionContextAllocationStrategy = <S>)",
    "Runtime.deserialize_cuda_engine": "(self: Runtime, serialized_engine: typing_extensions.Buffer) -> ICudaEngine",
    "Builder.build_serialized_network": "(self: Builder, network: INetworkDefinition, config: IBuilderConfig)",
}
PROPERTIES = {  # what may be assigned
    "IBuilderConfig.builder_optimization_level": "typing.SupportsInt",
    "IBuilderConfig.profiling_verbosity": "ProfilingVerbosity",
    "IBuilderConfig.hardware_compatibility_level": "HardwareCompatibilityLevel",
    "IBuilderConfig.default_device_type": "DeviceType",
    "IBuilderConfig.DLA_core": "typing.SupportsInt",
    "IBuilderConfig.progress_monitor": "IProgressMonitor",
    "EngineInspector.execution_context": "IExecutionContext",
    "Runtime.DLA_core": "typing.SupportsInt",
    "Runtime.engine_host_code_allowed": "bool",
}
SUBCLASSED = ("ILogger", "IProgressMonitor")


@dataclass(frozen=True)
class Param:
    name: str
    type: str
    optional: bool


def split(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    parts, depth, start = [], 0, 0
    for index, char in enumerate(text):
        depth += (char in "[<(") - (char in "])") - (char == ">" and text[index - 1] != "-")
        if char == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [part.strip() for part in [*parts, text[start:]] if part.strip()]


def parameters(signature: str) -> list[Param]:
    """Return the parameters of a signature as pybind11 writes it, without self."""
    inside = signature[signature.index("(") + 1 :].split(" -> ")[0].rstrip().removesuffix(")")
    found = []
    for part in split(inside):
        name, _, rest = part.partition(":")
        kind, _, default = rest.partition("=")
        if name.strip() != "self":
            found.append(Param(name.strip(), kind.strip(), bool(default)))
    return found


def bind(what: str, params: list[Param], arguments: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments by name, as the signature takes them."""
    if len(arguments) > len(params):
        raise TypeError(f"{what} takes {len(params)} arguments, not {len(arguments)}")
    bound = dict(zip((param.name for param in params), arguments, strict=False))
    for name, value in named.items():
        if name in bound or name not in {param.name for param in params}:
            raise TypeError(f"{what} has no argument '{name}' left")
        bound[name] = value
    missing = [param.name for param in params if not param.optional and param.name not in bound]
    if missing:
        raise TypeError(f"{what} lacks {missing}")
    return bound


class Surface:
    """A stand-in module.

    Args:
        name: What errors call it.
        api: Names to what they are, as the golden files list them.
        version: Its version.
        values: Numbers of enumerations that matter, ``"Enum.MEMBER"`` to the number.
    """

    def __init__(self, name: str, api: dict[str, Any], version: str, values: dict[str, int]) -> None:
        self.__dict__["_name"], self.__dict__["_api"] = name, api
        self.__dict__["__version__"] = version
        self.__dict__["handlers"] = {}
        for key, members in api.items():
            if "enum" in members:
                numbers = {m: values.get(f"{key}.{m}", index) for index, m in enumerate(members["enum"])}
                self.__dict__[key] = enumeration(key, numbers)
            elif "obj" not in members:
                self.__dict__[key] = self._class(key, members)

    def __getattr__(self, name: str) -> Any:
        if name in self._api and name in self.handlers:
            return self.handlers[name]
        raise AttributeError(f"{self._name} {self.__dict__['__version__']} has no '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self._name} is not to be changed ('{name}')")

    def handle(self, handlers: dict[str, Callable[..., Any]]) -> None:
        """Answer calls of real names; a name that is not real is refused."""
        for name in handlers:
            owner, _, member = name.partition(".")
            if owner not in self._api or (member and member not in self._api[owner]):
                raise AttributeError(f"{self._name} has no '{name}' to simulate")
        self.handlers.update(handlers)

    def new(self, kind: str, **state: Any) -> Any:
        """Return an object that TensorRT itself would make."""
        made = object.__new__(self.__dict__[kind])
        object.__setattr__(made, "_state", state)
        return made

    def check(self, what: str, value: Any, kind: str) -> None:
        """Check an argument against the type that the signature names."""
        kind = re.split(r"::|\.", kind)[-1] if "collections" not in kind else "Sequence"
        whole = hasattr(value, "__index__") and not isinstance(value, bool)
        fits = {
            "str": isinstance(value, str),
            "bool": isinstance(value, bool),
            "SupportsInt": whole,
            "Sequence": isinstance(value, list | tuple),
            "Buffer": isinstance(value, bytes | bytearray | memoryview),
            "Dims": isinstance(value, list | tuple) and all(hasattr(side, "__index__") for side in value),
        }
        if kind in fits:
            ok = fits[kind]
        elif isinstance(self.__dict__.get(kind), type):
            ok = isinstance(value, self.__dict__[kind]) and (kind not in SUBCLASSED or hasattr(value, "_state"))
        else:
            raise NotImplementedError(f"{what}: the stand-in does not know the type {kind}")
        if not ok:
            raise TypeError(f"{what}: {value!r} is no {kind}")

    def _class(self, kind: str, members: dict[str, str]) -> type:
        fields: dict[str, Any] = {"__init__": self._constructor(kind, members), "__setattr__": setter(kind, members)}
        if any(text == "attribute" for text in members.values()):
            severity = enumeration("Severity", {m: i for i, m in enumerate(SEVERITIES)})
            fields |= {"Severity": severity} | {m: severity[m] for m in SEVERITIES if m in members}
        for name, text in members.items():
            if text.startswith("property"):
                fields[name] = self._property(kind, name, text)
            elif name != "__init__" and "(" in text:
                fields[name] = self._method(kind, name, text)
        base = bytes if kind == "IHostMemory" else object
        if base is bytes:
            fields = {key: value for key, value in fields.items() if key not in ("__init__", "__setattr__")}
        return type(kind, (base,), fields)

    def _constructor(self, kind: str, members: dict[str, str]) -> Callable[..., None]:
        text = members.get("__init__", "")
        params = None if "self: " not in text else parameters(text)

        def construct(this: Any, *arguments: Any, **named: Any) -> None:
            if params is None:
                raise TypeError(f"{kind}: No constructor defined!")
            bound = bind(kind, params, arguments, named)
            for param in params:
                if param.name in bound:
                    self.check(f"{kind}({param.name})", bound[param.name], param.type)
            object.__setattr__(this, "_state", dict(bound))
            if kind in self.handlers:
                self.handlers[kind](this)

        return construct

    def _method(self, kind: str, name: str, text: str) -> Callable[..., Any]:
        key = f"{kind}.{name}"
        open_ended = "(*args" in text
        params = parameters(OVERLOADS[key]) if key in OVERLOADS else ([] if open_ended else parameters(text))

        def call(this: Any, *arguments: Any, **named: Any) -> Any:
            if open_ended and key not in OVERLOADS:
                raise NotImplementedError(f"{key}: its overloads are not known here")
            if not isinstance(this, bytes) and not hasattr(this, "_state"):
                raise TypeError(f"{kind}.__init__() must be called when overriding __init__")
            bound = bind(key, params, arguments, named)
            for param in params:
                if param.name in bound:
                    self.check(f"{key}({param.name})", bound[param.name], param.type)
            if key not in self.handlers:
                raise NotImplementedError(f"{key} is real, but not simulated")
            return self.handlers[key](this, **bound)

        return call

    def _property(self, kind: str, name: str, text: str) -> property:
        key = f"{kind}.{name}"

        def get(this: Any) -> Any:
            if key in self.handlers:
                return self.handlers[key](this)
            if name in this._state:
                return this._state[name]
            raise NotImplementedError(f"{key} is real, but not simulated")

        def put(this: Any, value: Any) -> None:
            if key not in PROPERTIES:
                raise NotImplementedError(f"{key} is real, but what it takes is not known here")
            self.check(key, value, PROPERTIES[key])
            this._state[name] = value

        return property(get, put if text.endswith("rw") else None)


SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")


def enumeration(name: str, numbers: dict[str, int]) -> type[enum.Enum]:
    """Return an enumeration whose members turn into numbers by `int`, and compare by equality alone."""

    class Base(enum.Enum):
        def __int__(self) -> int:
            return int(self.value)

    return Base(name, numbers)


def setter(kind: str, members: dict[str, str]) -> Callable[[Any, str, Any], None]:
    """Return a `__setattr__` that takes only real properties, but anything on a class derived from it."""

    def put(this: Any, name: str, value: Any) -> None:
        if type(this).__name__ == kind and not members.get(name, "").startswith("property"):
            raise AttributeError(f"'{kind}' object has no attribute '{name}'")
        object.__setattr__(this, name, value)

    return put
