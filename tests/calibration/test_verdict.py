from __future__ import annotations

from dataclasses import replace

import pytest

from yoloqat.calibration.explain_tables import facts_tables
from yoloqat.calibration.facts import (
    Among,
    Channels,
    CompactHistogram,
    QuantizerFacts,
    RangeOption,
    SharedTensor,
    Usage,
)
from yoloqat.calibration.verdict import counted, part, verdict

USAGE = Usage(
    mean_square=1.0,
    error=0.001,
    absolute_error=0.02,
    sqnr_db=30.0,
    clipped_share=0.0,
    clip_error_share=0.0,
    zero_share=0.4,
    zero_error_share=0.3,
    one_share=0.1,
    beyond_third_share=0.2,
    p50_steps=1.0,
    p99_steps=90.0,
    reached=(-120, 127),
    integers=(-128, 127),
    steps=127,
    entropy_bits=3.0,
    most_entropy_bits=7.0,
    integer_shares=(1.0,),
    integers_per_share=128,
)
FACTS = QuantizerFacts(
    name="model.1.conv._input_quantizer",
    kind="activation",
    bits=8,
    symmetric=True,
    per_channel=False,
    method="mse",
    count=1000,
    low=-9.0,
    high=10.0,
    amax=10.0,
    scale=10 / 127,
    usage=USAGE,
    options=(),
    histogram=CompactHistogram("value", (0.0, 1.0), (1.0,), 10.0),
    tensor="model.0.act:silu",
)


def option(name: str, ratio: float, absolute: float = 1.0) -> RangeOption:
    return RangeOption(name, 5.0, 5 / 127, 0.001, 33.0, ratio, absolute)


def test_nothing_stands_out() -> None:
    assert verdict(FACTS) == (
        "nothing stands out: 99 % of the values lie within 90 of 127 steps and 40 % round to 0; "
        "no other method has a much smaller squared error"
    )


def test_outliers_and_the_method_that_helps() -> None:
    usage = replace(USAGE, beyond_third_share=0.0003, p99_steps=12.0)
    facts = replace(FACTS, usage=usage, options=(option("mse", 0.79), option("percentile-99.99", 0.5)))
    assert verdict(facts) == (
        "3 of 10,000 values reach past a third of the range: outliers set the step, 99 % of the values lie within 12 of 127 "
        "steps and 40 % round to 0; percentile-99.99 leaves 50 % of the squared error"
    )


def test_where_many_values_are_at_0_the_absolute_error_is_told() -> None:
    options = (option("mse", 1.0), option("entropy", 8.8, 0.59), option("percentile-99.9", 6.8, 0.61))
    facts = replace(FACTS, options=(*options, option("affine, mse", 0.9, 0.1)))
    expected = (
        "no other method has a much smaller squared error, which the largest values carry, "
        "but entropy leaves 59 % of the mean absolute error: the method per-layer chooses by the layer's output"
    )
    assert verdict(facts).endswith(expected)
    for other in (replace(facts, usage=replace(USAGE, zero_share=0.1)), replace(facts, options=options[:1])):
        assert verdict(other).endswith("no other method has a much smaller squared error")


def test_the_largest_share_of_zeros_is_told() -> None:
    facts = replace(FACTS, among=Among(38, 4, 32.0, 1, 0.03))
    assert "40 % round to 0, more than anywhere else (median 3 %)" in verdict(facts)
    assert "more than" not in verdict(replace(facts, among=Among(38, 4, 32.0, 2, 0.03)))


def test_a_shared_scale_names_the_tensor_and_what_its_own_would_leave() -> None:
    own = replace(option("own, mse", 0.04), amax=10 / 6)
    shared = (SharedTensor("model.0.act:silu", -1.0, 2.0, 15.0, own), SharedTensor("cat", -9.0, 10.0, 30.0, own))
    facts = replace(FACTS, shared=shared, shared_count=2)
    assert verdict(facts) == (
        "shared scale: the range is 6.0 times as large as that of model.0.act:silu alone; "
        "a scale of its own (unmerge its layer) leaves 4 % of its squared error"
    )


def test_clipping_is_the_cause_where_it_carries_the_error() -> None:
    facts = replace(
        FACTS, usage=replace(USAGE, clipped_share=0.02, clip_error_share=0.9), options=(option("max", 0.1),)
    )
    assert verdict(facts) == (
        "2 % of the values are clipped and carry 90 % of the squared error; max leaves 10 % of the squared error"
    )


@pytest.mark.parametrize(
    ("reached", "words"),
    [
        ((-3, 127), "no integer below -3 is reached: a zero-point"),
        ((-128, 0), "no integer above 0 is reached: a zero-point"),
        ((-120, 127), "error; a zero-point (affine activations, not for TensorRT) leaves 38 %"),
    ],
)
def test_an_unused_side_is_told_with_what_a_zero_point_leaves(reached: tuple[int, int], words: str) -> None:
    facts = replace(FACTS, usage=replace(USAGE, reached=reached), options=(option("affine, mse", 0.38),))
    assert words in verdict(facts)


@pytest.mark.parametrize(("per_channel", "words"), [(False, "and all share one scale"), (True, "each with a scale of")])
def test_a_wide_channel_is_named(per_channel: bool, words: str) -> None:
    channels = Channels(64, 0, 0.1, 4.0, 40.0, 12)
    facts = replace(FACTS, kind="weight", tensor=None, channels=channels, per_channel=per_channel)
    assert verdict(facts).startswith(f"channel 12's weights are 40 x the median channel's, {words}")


def test_an_empty_range_is_told() -> None:
    assert verdict(replace(FACTS, amax=0.0)) == "every value was 0: the range is empty"


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "none of the values"),
        (0.0003, "3 of 10,000 values"),
        (0.00099, "1 of 1,000 values"),
        (0.001, "1 of 1,000 values"),
        (0.0093, "9 of 1,000 values"),
        (0.05, "5 % of the values"),
        (1.0, "all values"),
    ],
)
def test_shares_in_words(share: float, words: str) -> None:
    assert counted(share) == words


def test_small_parts_are_not_zero() -> None:
    assert (part(0.004), part(0.5), part(0.0)) == ("less than 1 %", "50 %", "0 %")


def test_tables_hold_the_facts_the_present_range_and_the_shared_tensors() -> None:
    own = option("own, mse", 0.25)
    facts = replace(
        FACTS,
        shared=(SharedTensor("cat", -9.0, 10.0, 30.0, own),),
        shared_count=2,
        options=(option("max", 2.0), replace(own, error_ratio=None, sqnr_db=None)),
        channels=Channels(4, 1, 0.5, 1.5, 3.0, 2),
        among=Among(38, 4, 32.0, 1, 0.03),
    )
    first, ranges, tensors = facts_tables(facts, "why")
    rows = dict(first.rows)
    assert rows["tensor"] == "model.0.act:silu, and 1 more share its scale"
    assert rows["amax"] == "10, by mse"
    assert rows["SQNR"] == "30.0 dB, rank 4 of 38 activations (median 32.0)"
    assert rows["half, 99 % of the values"] == "within 1.0, 90.0 of 127 steps"
    assert rows["median channel, largest"] == "0.5, 1.5 (channel 2)"
    assert rows["channels of zeros"] == "1 of 4"
    assert first.caption == "why"
    assert [row[0] for row in ranges.rows] == ["present", "max", "own, mse"]
    assert ranges.rows[1][-3:] == ("33.0", "x 2", "x 1")
    assert ranges.rows[2][-3:] == ("-", "-", "x 1")
    assert tensors.rows == (("cat", "-9", "10", "30.0", "5", "33.0"),)
