from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import helper, numpy_helper

from yoloqat.engines import cpu_saturates, overflow_risk, to_uint8
from yoloqat.engines.saturation import overflowing_pairs


@given(
    weight=arrays(np.int8, st.tuples(st.integers(1, 3), st.integers(1, 5), st.just(1), st.integers(1, 2))),
    highest=st.integers(0, 255),
)
def test_pairs_against_every_corner(weight, highest):
    """A sum of two products is extreme at a corner of the square of codes, so the four corners decide."""
    outputs, inputs, height, width = weight.shape
    wanted = total = 0
    for o in range(outputs):
        for i in range(0, inputs, 2):
            for y in range(height):
                for x in range(width):
                    first = int(weight[o, i, y, x])
                    second = int(weight[o, i + 1, y, x]) if i + 1 < inputs else 0
                    sums = [a * first + b * second for a in (0, highest) for b in (0, highest)]
                    wanted += max(sums) > 32767 or min(sums) < -32768
                    total += 1
    found = overflowing_pairs(weight, highest=highest)
    assert (found.pairs, found.total) == (wanted, total)


def test_seven_bit_weights_never_overflow():
    assert overflowing_pairs(np.full((1, 2, 1, 1), 64, dtype=np.int8), highest=255).pairs == 0
    assert overflowing_pairs(np.full((1, 2, 1, 1), 65, dtype=np.int8), highest=255).pairs == 1


def test_tight_zero_points_lower_the_risk(tiny):
    model = tiny()
    loose = overflow_risk(to_uint8(model, tight=False).model)
    tight = overflow_risk(to_uint8(model).model)
    assert set(loose) == set(tight) == {"first", "second"}
    for name in loose:
        assert tight[name].pairs < loose[name].pairs
        assert tight[name].total == loose[name].total
    assert overflow_risk(model) == loose


def test_float_graph_has_no_risk(tiny):
    assert overflow_risk(tiny(quantized=False)) == {}


def test_processors_with_vnni_do_not_saturate():
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        pytest.skip("no /proc/cpuinfo to compare with")
    flags = cpuinfo.read_text(encoding="utf-8")
    if "vnni" not in flags and " avx2" not in flags:
        pytest.skip("neither VNNI nor AVX2: nothing is known of this processor")
    assert cpu_saturates() == ("vnni" not in flags)


def test_transposed_convolutions_pair_their_inputs():
    codes = np.zeros((4, 3, 1, 1), dtype=np.int8)  # inputs, outputs per group
    codes[0, 1], codes[1, 1] = 127, 127
    scales = [numpy_helper.from_array(np.ones(1, dtype=np.float32).reshape(()), "s")]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["dq"]),
        helper.make_node("DequantizeLinear", ["c", "s"], ["w"]),
        helper.make_node("ConvTranspose", ["dq", "w"], ["y"], name="up", group=2),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [*scales, numpy_helper.from_array(codes, "c")])
    risk = overflow_risk(helper.make_model(graph))["up"]
    assert (risk.pairs, risk.total) == (1, 6)
    assert risk.share == pytest.approx(1 / 6)


def test_depthwise_convolutions_add_in_32_bits(tiny):
    model = tiny()
    for node in model.graph.node:
        if node.name == "first":
            node.attribute.append(helper.make_attribute("group", 3))
    for tensor in model.graph.initializer:
        if tensor.name == "first/codes":
            tensor.CopyFrom(numpy_helper.from_array(np.full((3, 1, 3, 3), 127, dtype=np.int8), tensor.name))
    assert set(overflow_risk(model)) == {"second"}
