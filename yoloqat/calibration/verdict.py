"""One sentence by rule on what makes a quantizer noisy, and which other range would help."""

from __future__ import annotations

import math

from yoloqat.calibration.facts import QuantizerFacts

SHARED, CHANNELS = 2.0, 8.0
"""From these ratios a shared scale, or the largest channel, is too wide for the rest."""
FEW = 0.01
"""Share of values, beyond a third of the range, up to which they are outliers."""
MOST_ERROR = 0.5
"""Share of the squared error from which clipping is its cause."""
UNUSED = 8
"""A side of the integers is unused where less than one in so many of them is reached."""
ZEROS = 0.15
"""Share of values at 0 from which the squared error is a poor measure of the noise at the outputs."""
WORTH = 0.8
"""Share of the squared error that another range must leave at most to be named."""
SMALLEST = 1e-9
"""Shares and ranges below this are 0."""
AFFINE = "affine"
"""Begins the name of the range with a zero-point."""


def verdict(facts: QuantizerFacts) -> str:
    """Return the cause and the remedy in one sentence."""
    if facts.amax == 0:
        return "every value was 0: the range is empty"
    found = _cause(facts) or _usual(facts)
    return "; ".join([found, *_remedies(facts)])


def _cause(facts: QuantizerFacts) -> str | None:
    usage = facts.usage
    if facts.kind == "weight":
        return _channels(facts)
    own = next((tensor for tensor in facts.shared if tensor.name == facts.tensor), None)
    if own is not None and (ratio := facts.amax / max(own.own.amax, SMALLEST)) >= SHARED:
        return f"shared scale: the range is {ratio:.1f} times as large as that of {own.name} alone"
    if usage.clip_error_share >= MOST_ERROR:
        return (
            f"{counted(usage.clipped_share)} are clipped and carry {part(usage.clip_error_share)} of the squared error"
        )
    if usage.beyond_third_share <= FEW:
        return (
            f"{counted(usage.beyond_third_share)} reach past a third of the range: outliers set the step, "
            f"{_within(facts)} and {_zeros(facts)}"
        )
    return None


def _within(facts: QuantizerFacts) -> str:
    return f"99 % of the values lie within {facts.usage.p99_steps:.0f} of {facts.usage.steps} steps"


def _zeros(facts: QuantizerFacts) -> str:
    among = facts.among
    most = among is not None and among.count > 1 and among.zero_rank == 1
    compared = f", more than anywhere else (median {part(among.zero_median)})" if among is not None and most else ""
    return f"{part(facts.usage.zero_share)} round to 0{compared}"


def _channels(facts: QuantizerFacts) -> str | None:
    channels = facts.channels
    if channels is None or channels.largest_over_median is None or channels.largest_over_median < CHANNELS:
        return None
    found = f"channel {channels.channel}'s weights are {channels.largest_over_median:.0f} x the median channel's"
    return f"{found}, {'each with a scale of its own' if facts.per_channel else 'and all share one scale'}"


def _usual(facts: QuantizerFacts) -> str:
    return f"nothing stands out: {_within(facts)} and {_zeros(facts)}"


def _remedies(facts: QuantizerFacts) -> list[str]:
    found = []
    own = next((tensor for tensor in facts.shared if tensor.name == facts.tensor), None)
    if own is not None and (ratio := own.own.error_ratio) is not None and ratio <= WORTH:
        found.append(f"a scale of its own (unmerge its layer) leaves {part(ratio)} of its squared error")
    useful = {option.name: option.error_ratio for option in facts.options if option.error_ratio is not None}
    useful = {name: ratio for name, ratio in useful.items() if ratio <= WORTH}
    affine = next((name for name in useful if name.startswith(AFFINE)), None)
    left = None if affine is None else useful.pop(affine)
    if useful:
        best = min(useful, key=lambda name: useful[name])
        found.append(f"{best} leaves {part(useful[best])} of the squared error")
    elif facts.kind == "activation" and not found:
        found.append(_by_absolute_error(facts) or "no other method has a much smaller squared error")
    if left is not None:
        low, high = facts.usage.reached
        unused = min(-low, high) * UNUSED < facts.usage.steps
        side = f"no integer {f'below {low}' if -low < high else f'above {high}'} is reached: " if unused else ""
        found.append(
            f"{side}a zero-point (affine activations, not for TensorRT) leaves {part(left)} of the squared error"
        )
    return found


def _by_absolute_error(facts: QuantizerFacts) -> str | None:
    """Return what helps where no method has a smaller squared error, which a few large values carry."""
    plain = [option for option in facts.options if not option.name.startswith(AFFINE)]
    ratios = {option.name: option.absolute_ratio for option in plain if option.absolute_ratio is not None}
    if facts.usage.zero_share < ZEROS or not ratios:
        return None
    best = min(ratios, key=lambda name: ratios[name])
    if ratios[best] > WORTH:
        return None
    return (
        f"no other method has a much smaller squared error, which the largest values carry, but {best} leaves "
        f"{part(ratios[best])} of the mean absolute error: the method per-layer chooses by the layer's output"
    )


def counted(share: float) -> str:
    """Return a share in words: per cent, or so many of the power of ten that makes it a number from 1 to 9."""
    if share >= FEW:
        return f"{100 * share:.2g} % of the values" if share < 1 else "all values"
    if share < SMALLEST:
        return "none of the values"
    digits = math.ceil(-math.log10(share))
    count = round(share * 10**digits)
    count, digits = (1, digits - 1) if count == 10 else (count, digits)
    return f"{count} of {10**digits:,} values"


def part(share: float) -> str:
    """Return a share in per cent, or as less than the smallest that is shown."""
    return "less than 1 %" if 0 < share < FEW else f"{100 * share:.0f} %"
