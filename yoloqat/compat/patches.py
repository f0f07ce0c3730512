"""Temporary changes of attributes on modules and classes of other packages."""

from __future__ import annotations

from typing import Any

_MISSING = object()


class Patches:
    """Sets attributes and records the first value of each.

    NVIDIA's interface patches ``torch.nn`` and keeps defaults on classes. Every such change goes through an instance of this
    class, so that it can be taken back in full however often it was made.
    """

    def __init__(self) -> None:
        self._before: dict[tuple[int, str], tuple[Any, Any]] = {}

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Set attribute ``name`` of ``owner``, a module or class."""
        # vars and not getattr: an inherited default must be inherited again afterwards
        self._before.setdefault((id(owner), name), (owner, vars(owner).get(name, _MISSING)))
        setattr(owner, name, value)

    def restore(self) -> None:
        """Undo every change."""
        for (_, name), (owner, before) in self._before.items():
            if before is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        self._before.clear()
