"""A reader of protobuf's text format, as far as a config.pbtxt goes: messages, lists, strings, numbers, names."""

from __future__ import annotations

import re
from typing import Any

_TOKEN = re.compile(r'\s*("(?:\\.|[^"\\])*"|-?\d+|[A-Za-z_]\w*|[{}\[\]:,])')
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


def parse(text: str) -> dict[str, Any]:
    """Return the fields of a message; one that is given several times becomes a list."""
    tokens, position = [], 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"cannot read {text[position : position + 20]!r}")
        tokens.append(match.group(1))
        position = match.end()
    message, rest = _message(tokens)
    if rest:
        raise ValueError(f"left over: {rest[:3]}")
    return message


def _message(tokens: list[str]) -> tuple[dict[str, Any], list[str]]:
    fields: dict[str, Any] = {}
    while tokens and tokens[0] != "}":
        name, tokens = tokens[0], tokens[1:]
        if not re.fullmatch(r"[a-z_]+", name):
            raise ValueError(f"no field name: {name!r}")
        if tokens[0] == ":":
            tokens = tokens[1:]
        elif tokens[0] not in "{[":
            raise ValueError(f"no value after {name}")
        value, tokens = _value(tokens)
        if name in fields:
            before = fields[name] if isinstance(fields[name], list) else [fields[name]]
            value = before + (value if isinstance(value, list) else [value])
        fields[name] = value
    return fields, tokens


def _value(tokens: list[str]) -> tuple[Any, list[str]]:
    first, rest = tokens[0], tokens[1:]
    if first == "{":
        message, rest = _message(rest)
        return message, rest[1:]
    if first == "[":
        values = []
        while rest[0] != "]":
            value, rest = _value(rest)
            values.append(value)
            if rest[0] == ",":
                rest = rest[1:]
                if rest[0] == "]":
                    raise ValueError("a comma before ]")
            elif rest[0] != "]":
                raise ValueError(f"no comma before {rest[0]!r}")
        return values, rest[1:]
    if first.startswith('"'):
        return re.sub(r"\\(.)", lambda match: _ESCAPES[match.group(1)], first[1:-1]), rest
    if first in "}],:":
        raise ValueError(f"no value: {first!r}")
    return int(first) if re.fullmatch(r"-?\d+", first) else first, rest
