"""Tensors that are joined into groups, such as those that share a scale."""

from __future__ import annotations


class Groups:
    """Names joined into groups (union-find with path halving); a name that was never joined is a group of its own."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        """Return the name that stands for the group of ``name``."""
        self._parent.setdefault(name, name)
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def join(self, *names: str) -> None:
        """Join ``names`` into one group."""
        for name in names[1:]:
            self._parent[self.root(name)] = self.root(names[0])
