"""Arguments of the public functions, checked against their annotations: a wrong one raises a one-line error."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from yoloqat.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")


def checked_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that refuses arguments of other classes than its annotations name.

    Classes, unions of them and sequences of them are checked. Numbers are left to the settings that know their range, and so is
    what is no class, such as a callable.

    Args:
        function: A function whose annotations can be resolved when it is first called.

    Returns:
        The same function otherwise; it raises ConfigError, which names the argument, its value and the classes.
    """

    @cache
    def wanted() -> dict[str, Any]:
        hints = get_type_hints(function)
        return {name: hint for name, hint in hints.items() if name != "return" and _checkable(hint)}

    signature = inspect.signature(function)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            hint = wanted().get(name)
            if hint is not None and not _fits(value, hint):
                raise ConfigError(
                    f"{name} of {function.__name__} is {value!r:.120}", expected=_text(hint), hint="pass such a value"
                )
        return function(*args, **kwargs)

    return checked


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _checkable(hint: Any) -> bool:
    parts = _parts(hint)
    known = (isinstance(part, type) or get_origin(part) is Sequence for part in parts)
    return (
        not {int, float} & set(parts) and not any(getattr(part, "_is_protocol", False) for part in parts) and all(known)
    )


def _fits(value: object, hint: Any) -> bool:
    for part in _parts(hint):
        if get_origin(part) is not Sequence:
            if isinstance(value, part):
                return True
        elif isinstance(value, Sequence) and not isinstance(value, str):
            (entry,) = get_args(part)
            if all(_fits(item, entry) for item in value):
                return True
    return False


def _text(hint: Any) -> str:
    return " or ".join(
        f"a sequence of {_text(get_args(part)[0])}"
        if get_origin(part) is Sequence
        else "None"
        if part is types.NoneType
        else part.__name__
        for part in _parts(hint)
    )
