"""Settings to and from plain dicts that carry their type and version, for checkpoints and results."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar

from yoloqat.errors import ConfigError

VERSION = 1
T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a frozen setting as a JSON-able dict with its type name and version.

    Args:
        config: An instance of one of the dataclasses of :mod:`yoloqat.config`.
    """
    return {"type": type(config).__name__, "version": VERSION} | {
        field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return list(value) if isinstance(value, tuple) else value


def from_dict(kind: type[T], data: dict[str, Any]) -> T:
    """Make a setting of type ``kind`` from what :func:`to_dict` returned.

    Raises:
        ConfigError: The dict is of another type or a newer version, lacks a key, or holds an unknown or unfit value.
    """
    if not isinstance(data, dict):
        raise ConfigError(
            f"settings are {data!r}",
            expected=f"a dict of {kind.__name__}",
            hint="read them from where they were written",
        )
    found = (data.get("type"), data.get("version"))
    if found != (kind.__name__, VERSION):
        raise ConfigError(
            f"settings are of type and version {found}",
            expected=f"{kind.__name__} version {VERSION}",
            hint="read them with the yoloqat that wrote them",
        )
    hints = typing.get_type_hints(kind)
    values = {name: value for name, value in data.items() if name not in ("type", "version")}
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(
            f"{kind.__name__} has the unknown keys {', '.join(unknown)}",
            expected=f"only {', '.join(hints)}",
            hint="remove them",
        )
    required = (
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    missing = [name for name in required if name not in values]
    if missing:
        raise ConfigError(
            f"{kind.__name__} lacks {', '.join(missing)}",
            expected=f"the keys {', '.join(hints)}",
            hint="read it from where it was written",
        )
    return kind(**{name: _typed(name, hints[name], value) for name, value in values.items()})


def _typed(name: str, hint: Any, value: Any) -> Any:
    """Return ``value`` as its annotation asks; what a number or text may be is checked by the settings themselves."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_dict(hint, value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name} is {value!r}", expected="a list", hint=f"write {name} as a list")
        return tuple(value)
    return value
