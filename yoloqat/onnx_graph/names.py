"""What exporters make of the names of modules."""

from __future__ import annotations

from collections.abc import Collection


def module_path(name: str, operators: Collection[str]) -> str:
    """Return a node's name as a path of modules: ``model.2.m.0`` of ``/model.2/m.0/Add`` or ``/model.2/m/m.0/Add``.

    Args:
        name: The node's name.
        operators: What the last part may be beside a module, with or without a number: ``Add`` of the example.

    Returns:
        The path, empty where the name has no part.
    """
    parts = [part for part in name.split("/") if part]
    if not parts:
        return ""
    operator, _, count = parts[-1].partition("_")
    if len(parts) > 1 and operator in operators and (not count or count.isdecimal()):
        parts.pop()
    own = [part for part, after in zip(parts, [*parts[1:], ""], strict=True) if not after.startswith(f"{part}.")]
    return ".".join(own)
