"""The facts of a quantizer as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from yoloqat.calibration.facts import QuantizerFacts, RangeOption
from yoloqat.results import Table, number


def facts_tables(facts: QuantizerFacts, sentence: str) -> tuple[Table, ...]:
    """Return the facts, the other ranges and the tensors of a shared scale as tables.

    Args:
        facts: Of one quantizer.
        sentence: Shown below the facts.
    """
    tables = [Table(facts.name, ("what", "value"), tuple(_rows(facts)), sentence, left=(1,)), _options(facts)]
    if facts.shared:
        tables.append(_shared(facts))
    return tuple(tables)


def _rows(facts: QuantizerFacts) -> Iterator[tuple[str, str]]:
    usage = facts.usage
    channel = " of the largest channel" if facts.per_channel else ""
    if facts.tensor is not None:
        more = f", and {facts.shared_count - 1} more share its scale" if facts.shared_count > 1 else ""
        yield "tensor", f"{facts.tensor}{more}"
    yield "values", f"{facts.count:,}, from {facts.low:.4g} to {facts.high:.4g}"
    scheme = f"{facts.bits} bits, {'symmetric' if facts.symmetric else 'affine'}"
    yield "scheme", f"{scheme}, per channel" if facts.per_channel else scheme
    yield f"amax{channel}", f"{facts.amax:.4g}, by {facts.method}" if facts.method else f"{facts.amax:.4g}"
    yield f"scale{channel}", f"{facts.scale:.4g}"
    among, what = facts.among, "activations" if facts.kind == "activation" else "weights"
    decibels, rest = f"{number(usage.sqnr_db, 1)} dB", ""
    if among is not None:
        decibels += f", rank {among.sqnr_rank} of {among.count} {what} (median {number(among.sqnr_median_db, 1)})"
        rest = f" (rank {among.zero_rank}, median {_share(among.zero_median)})"
    yield "SQNR", decibels
    yield "clipped", f"{_share(usage.clipped_share)}, with {_share(usage.clip_error_share)} of the squared error"
    yield "round to 0", f"{_share(usage.zero_share)}{rest}, with {_share(usage.zero_error_share)} of the squared error"
    yield "round to one step", _share(usage.one_share)
    yield "beyond a third of the range", _share(usage.beyond_third_share)
    yield "half, 99 % of the values", f"within {usage.p50_steps:.1f}, {usage.p99_steps:.1f} of {usage.steps} steps"
    reached, whole = (f"{low} to {high}" for low, high in (usage.reached, usage.integers))
    yield "integers reached", f"{reached} of {whole}"
    yield "entropy of the integers", f"{usage.entropy_bits:.2f} of {usage.most_entropy_bits:.2f} bits, without sign"
    if (channels := facts.channels) is not None:
        yield "median channel, largest", f"{channels.median:.4g}, {channels.largest:.4g} (channel {channels.channel})"
        if channels.zero:
            yield "channels of zeros", f"{channels.zero} of {channels.count}"


def _share(share: float) -> str:
    return f"{100 * share:.3g} %"


def _options(facts: QuantizerFacts) -> Table:
    usage = facts.usage
    present = RangeOption("present", facts.amax, facts.scale, usage.clipped_share, usage.sqnr_db, 1.0, 1.0)
    columns = ("range", "amax", "scale", "clipped", "SQNR dB", "squared", "absolute")
    return Table(
        "what other ranges give, with the squared and the mean absolute error",
        columns,
        tuple(_option_row(each) for each in (present, *facts.options)),
    )


def _option_row(option: RangeOption) -> tuple[str, ...]:
    return (option.name, *_numbers(option))


def _numbers(option: RangeOption) -> Sequence[str]:
    ratios = ("-" if one is None else f"x {one:.3g}" for one in (option.error_ratio, option.absolute_ratio))
    clipped = _share(option.clipped_share)
    return f"{option.amax:.4g}", f"{option.scale:.4g}", clipped, number(option.sqnr_db, 1), *ratios


def _shared(facts: QuantizerFacts) -> Table:
    rows = tuple(
        (
            tensor.name,
            f"{tensor.low:.4g}",
            f"{tensor.high:.4g}",
            number(tensor.sqnr_db, 1),
            f"{tensor.own.amax:.4g}",
            number(tensor.own.sqnr_db, 1),
        )
        for tensor in facts.shared
    )
    columns = ("tensor", "lowest", "highest", "SQNR dB", "own amax", "own dB")
    title = f"tensors that share the scale of amax {facts.amax:.4g}, and a scale of its own for each"
    return Table(title, columns, rows)
