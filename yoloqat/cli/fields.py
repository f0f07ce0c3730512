"""Options that are fields of a settings class: their defaults stand there alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any

_METAVARS = {int: "N", float: "F", str: "NAME"}


def option_name(action: argparse.Action) -> str:
    """Return an option's long name: the last of its names, of a switch with a ``--no-`` form the first."""
    return action.option_strings[0 if isinstance(action, argparse.BooleanOptionalAction) else -1]


def default_of(config: type, name: str) -> Any:
    """Return the default of a field of a settings class."""
    field = next(field for field in fields(config) if field.name == name)
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else None


def add_field(
    group: argparse._ActionsContainer,
    config: type,
    name: str,
    text: str,
    *,
    flag: str | None = None,
    dest: str | None = None,
    metavar: str | None = None,
    choices: Sequence[str] | None = None,
    read: Callable[[str], Any] | None = None,
    shown: str | None = None,
) -> None:
    """Add the option that sets a field: a switch for a truth value, else one value of the default's type.

    Args:
        group: Of the parser.
        config: The settings class, a dataclass.
        name: Its field.
        text: What the field is; the default is added to it.
        flag: The option, where it is called otherwise than the field.
        dest: Name among the parsed arguments, where it is another than the flag's.
        metavar: What stands for the value in the help.
        choices: Values that are taken.
        read: Turns text into the value, where the default's type does not.
        shown: The default as the help tells it.
    """
    value = default_of(config, name)
    more: dict[str, Any] = {} if dest is None else {"dest": dest}
    flag = flag or f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        group.add_argument(flag, action="store_true", default=value, help=text, **more)
        return
    if choices is not None:
        more["choices"] = choices
    else:
        more |= {"type": read or type(value), "metavar": metavar or _METAVARS.get(type(value), "VALUE")}
    told = shown if shown is not None else "%(default)s"
    group.add_argument(flag, default=value, help=f"{text} (default: {told})", **more)
