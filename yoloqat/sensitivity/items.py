"""The items of a scan, switched one after the other, and the edges switched in each model: base, its opposite and items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yoloqat.errors import ConfigError
from yoloqat.quant import match_layers
from yoloqat.quant.graph import reader_name
from yoloqat.sensitivity.edges import OFF, Edge, Switch
from yoloqat.sensitivity.settings import BLOCK, GROUP, LAYER, LEAVE_ONE_OUT, ScanConfig


@dataclass(frozen=True)
class Item:
    """One item of a scan.

    Attributes:
        name: Of the layer, quantizer, block or group.
        edges: Names of the edges that are switched together.
        layers: The layers that hold them, each once, for an ignore list; those inside a block's own forward are not among
            them, since ignoring the block would leave all its layers float.
    """

    name: str
    edges: tuple[str, ...]
    layers: tuple[str, ...]


def make_items(edges: Sequence[Edge], config: ScanConfig) -> list[Item]:
    """Return the items of a scan, in the order of their first edges.

    Raises:
        ConfigError: A group is malformed or named twice.
        PatternError: A pattern of a group matches nothing.
    """
    members: dict[str, list[Edge]] = {}
    if config.granularity == GROUP:
        for name, patterns in (_parsed(text) for text in config.groups):
            if name in members:
                raise ConfigError(f"group '{name}' is named twice", expected="one group per name", hint="join them")
            holders = match_layers(patterns, {edge.holder for edge in edges})
            members[name] = [edge for edge in edges if edge.holder in holders]
    else:
        for edge in edges:
            members.setdefault(_item_name(edge, config.granularity), []).append(edge)
    return [
        Item(
            name,
            tuple(edge.name for edge in own),
            tuple(dict.fromkeys(edge.holder for edge in own if edge.of_layer)),
        )
        for name, own in members.items()
    ]


def _item_name(edge: Edge, granularity: str) -> str:
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
            expected="NAME=PATTERN,PATTERN with patterns as for `ignore`",
            hint="write e.g. neck=model.1[0-9]",
        )
    return name.strip(), patterns


BASE, OTHER = "(base)", "(other)"
"""Names of the model that every item is compared with, and of its opposite: float for a quantized base, and the reverse."""


def base_switches(edges: Sequence[Edge], config: ScanConfig) -> dict[str, Switch]:
    """Return what is switched in the base model: nothing in leave-one-out, else everything off."""
    return {} if config.mode == LEAVE_ONE_OUT else {edge.name: OFF for edge in edges}


def item_switches(items: Sequence[Item], edges: Sequence[Edge], config: ScanConfig) -> dict[str, dict[str, Switch]]:
    """Return what is switched under each item and in the base's opposite, whole.

    Raises:
        ConfigError: The bits of the quantizer under test are those that it has anyway.
    """
    everything_off = {edge.name: OFF for edge in edges}
    found: dict[str, dict[str, Switch]] = {OTHER: everything_off if config.mode == LEAVE_ONE_OUT else {}}
    if config.mode == LEAVE_ONE_OUT:
        check_bits(edges, config)
        under_test = Switch(config.bits)
        return found | {item.name: dict.fromkeys(item.edges, under_test) for item in items}
    for item in items:
        others = {name: switch for name, switch in everything_off.items() if name not in item.edges}
        found[item.name] = others if config.bits is None else others | dict.fromkeys(item.edges, Switch(config.bits))
    return found


def check_bits(edges: Sequence[Edge], config: ScanConfig) -> None:
    """Check that the bits of the quantizer under test are, in leave-one-out, fewer or more than those of every quantizer.

    Raises:
        ConfigError: They are not.
    """
    widths = sorted({edge.quantizer.scheme.bits for edge in edges})
    if config.bits is not None and not (config.bits < widths[0] or config.bits > widths[-1]):
        raise ConfigError(
            f"bits of the quantizer under test is {config.bits} in a model of {', '.join(map(str, widths))} bits",
            expected="fewer bits than the model's, or more",
            hint="leave `ScanConfig.bits` out to switch quantizers off, or name another number",
        )


def item_is_finer(edges: Sequence[Edge], config: ScanConfig) -> bool:
    """Return whether an item is quantized less finely than nothing else: less than the base model, or more.

    The effect of an item is the mAP of the finer of the two minus that of the coarser, so that a large one always marks a
    sensitive quantizer.
    """
    if config.mode != LEAVE_ONE_OUT:
        return False
    return config.bits is None or config.bits > max(edge.quantizer.scheme.bits for edge in edges)
