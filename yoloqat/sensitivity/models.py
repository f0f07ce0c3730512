"""The models of a scan: which edges are switched in the base, in its opposite, and under each item."""

from __future__ import annotations

from collections.abc import Sequence

from yoloqat.errors import ConfigError
from yoloqat.sensitivity.edges import Edge
from yoloqat.sensitivity.items import Item
from yoloqat.sensitivity.settings import LEAVE_ONE_OUT, ScanConfig
from yoloqat.sensitivity.switching import OFF, Switch

BASE, OTHER = "(base)", "(other)"
"""Names of the model that every item is compared with, and of its opposite: float for a quantized base, and the reverse."""


def base_switches(edges: Sequence[Edge], config: ScanConfig) -> dict[str, Switch]:
    """Return what is switched in the base model: nothing in leave-one-out, else everything off."""
    return {} if config.mode == LEAVE_ONE_OUT else {edge.name: OFF for edge in edges}


def item_switches(items: Sequence[Item], edges: Sequence[Edge], config: ScanConfig) -> dict[str, dict[str, Switch]]:
    """Return what is switched under each item and in the base's opposite, whole.

    Raises:
        ConfigError: The bits of the site under test are those that it has anyway.
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
    """Check that the bits of the site under test are more than every site has in leave-one-out, or fewer than every one.

    Raises:
        ConfigError: They are not.
    """
    widths = sorted({edge.quantizer.scheme.bits for edge in edges})
    if config.bits is not None and not (config.bits < widths[0] or config.bits > widths[-1]):
        raise ConfigError(
            f"bits of the site under test is {config.bits} in a model of {', '.join(map(str, widths))} bits",
            expected="fewer bits than the model's, or more",
            hint="leave --bits out to switch sites off, or name another number",
        )


def item_is_finer(edges: Sequence[Edge], config: ScanConfig) -> bool:
    """Return whether an item is quantized less finely than nothing else: less than the base model, or more.

    The effect of an item is the mAP of the finer of the two minus that of the coarser, so that a large one always marks a
    sensitive site.
    """
    if config.mode != LEAVE_ONE_OUT:
        return False
    return config.bits is None or config.bits > max(edge.quantizer.scheme.bits for edge in edges)
