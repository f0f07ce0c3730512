"""What is switched together: the rows of a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yoloqat.errors import ConfigError
from yoloqat.quant import match_layers
from yoloqat.quant.graph import reader_name
from yoloqat.sensitivity.edges import Edge
from yoloqat.sensitivity.settings import BLOCK, GROUP, LAYER, ScanConfig


@dataclass(frozen=True)
class Item:
    """One row of a scan.

    Attributes:
        name: Of the layer, quantizer, block or group.
        edges: Names of the edges that are switched together.
        layers: The layers that hold them, each once, for an ignore list; sites inside a block's own forward are not among
            them, since ignoring the block would leave all its layers float.
    """

    name: str
    edges: tuple[str, ...]
    layers: tuple[str, ...]


def make_items(edges: Sequence[Edge], config: ScanConfig) -> list[Item]:
    """Return the rows of a scan, in the order of their first edges.

    Raises:
        ConfigError: A group is malformed or named twice.
        PatternError: A pattern of a group matches nothing.
    """
    members: dict[str, list[Edge]] = {}
    if config.granularity == GROUP:
        for name, patterns in (_parsed(text) for text in config.groups):
            if name in members:
                raise ConfigError(f"group '{name}' is named twice", expected="one --group per name", hint="join them")
            holders = match_layers(patterns, {edge.holder for edge in edges})
            members[name] = [edge for edge in edges if edge.holder in holders]
    else:
        for edge in edges:
            members.setdefault(_row(edge, config.granularity), []).append(edge)
    return [
        Item(
            name,
            tuple(edge.name for edge in own),
            tuple(dict.fromkeys(edge.holder for edge in own if edge.of_layer)),
        )
        for name, own in members.items()
    ]


def _row(edge: Edge, granularity: str) -> str:
    if granularity == LAYER:
        return edge.holder if edge.of_layer else reader_name(edge.name)
    if granularity == BLOCK:
        return ".".join(edge.holder.split(".")[:2])
    return edge.quantizer_name


def _parsed(text: str) -> tuple[str, list[str]]:
    name, separator, listed = text.partition("=")
    patterns = [pattern.strip() for pattern in listed.split(",") if pattern.strip()]
    if not name.strip() or not separator or not patterns:
        raise ConfigError(
            f"group is {text!r}",
            expected="NAME=PATTERN,PATTERN with patterns as for --ignore",
            hint="write e.g. neck=model.1[0-9]",
        )
    return name.strip(), patterns
