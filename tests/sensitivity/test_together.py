"""Items that run together give what they give alone, whatever an operator does with the batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from yoloqat.config import QuantScheme
from yoloqat.quant.graph import trace
from yoloqat.quant.modules import QuantConv2d
from yoloqat.sensitivity.edges import OFF, active_edges
from yoloqat.sensitivity.replay import CPU_PIXELS, Replay

SIZE = 6


class Model(nn.Module):
    """Three quantized convolutions with an operation between the last two, and a concatenation of two branches at the end."""

    def __init__(self, middle) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.middle = middle
        self.first, self.second, self.third, self.side = (
            self._layer(name) for name in ("first", "second", "third", "side")
        )

    @staticmethod
    def _layer(name: str) -> QuantConv2d:
        layer = QuantConv2d.from_float(
            nn.Conv2d(4, 4, 3, padding=1),
            activations=QuantScheme(bits=4),
            weights=QuantScheme(bits=4, axis=0),
            name=name,
        )
        layer.calibrate_weight()
        layer._input_quantizer.amax = 2.0
        return layer

    def forward(self, x: Tensor) -> Tensor:
        first = nn.functional.silu(self.first(x))
        left, right = self.middle(nn.functional.silu(self.second(first)) + first).chunk(2, 1)
        third = self.third(torch.cat([left, right], 1))
        side = self.side(first)
        return torch.cat([third.flatten(2), side.view(x.shape[0], 4, -1)], 1)


def parted(x: Tensor) -> Tensor:
    return x / x.shape[0]


def mixing(x: Tensor) -> Tensor:
    return x - 0.5 * x.mean(0, keepdim=True)


def inward(x: Tensor) -> Tensor:
    return x.transpose(0, 1).abs().transpose(0, 1)


def replay(middle, *, batch: int = 2, mode: str = "one-at-a-time", **kwargs):
    module = Model(middle).eval()
    images = torch.randn(batch, 4, SIZE, SIZE)
    edges = active_edges(module)
    off = {edge.name: OFF for edge in edges}
    if mode == "one-at-a-time":
        base, items = off, {name: {key: OFF for key in off if key != name} for name in off}
    else:
        base, items = {}, {name: {name: OFF} for name in off}
    return Replay(module, trace(module, images), edges, base=base, items=items, **kwargs), images, list(items)


def outputs(replay: Replay, images: Tensor, names: list[str], memory: int = 1 << 30) -> dict[str | None, Tensor]:
    for _ in replay.run(images, names, memory=memory):  # the first batch runs one by one
        pass
    return {name: output.clone() for name, output in replay.run(images, names, memory=memory)}


@pytest.mark.parametrize("mode", ["one-at-a-time", "leave-one-out"])
@pytest.mark.parametrize(("batch", "width"), [(1, 2), (2, 6), (3, 100)])
@pytest.mark.parametrize("middle", [nn.Identity(), parted, mixing, inward])
def test_together_equals_alone(middle, batch, width, mode):
    alone, images, names = replay(middle, batch=batch, mode=mode, width=1)
    together, _, _ = replay(middle, batch=batch, mode=mode, width=width)
    expected = outputs(alone, images, names)
    for _ in range(2):  # the first run checks every node, the second trusts
        found = outputs(together, images, names)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert len({float(output.sum()) for output in expected.values()}) >= len(names)
    assert not alone.together.checked


def test_a_node_whose_numbers_depend_on_the_batch_is_found_and_named():
    divides, images, names = replay(parted)
    outputs(divides, images, names)
    nodes = divides._traced.nodes
    assert {nodes[index].op for index, _ in divides.together.parted} == {"aten.div.Tensor"}
    assert {nodes[index].op for index, _ in divides.together.checked} >= {"aten.conv2d.default", "aten.cat.default"}
    plain, _, _ = replay(nn.Identity())
    outputs(plain, images, names)
    assert not plain.together.parted


def test_a_shape_that_comes_once_is_not_traced_again():
    once, images, names = replay(nn.Identity())
    alone = dict(once.run(images, names, memory=1 << 30))
    assert not once.together.checked
    again = dict(once.run(images, names, memory=1 << 30))
    assert once.together.checked
    assert all(torch.equal(again[name], alone[name]) for name in alone)


def test_large_images_run_one_by_one_on_a_cpu():
    alone, images, names = replay(nn.Identity(), width=CPU_PIXELS // SIZE**2 + 1)
    outputs(alone, images, names)
    assert not alone.together.checked
    together, _, _ = replay(nn.Identity(), width=CPU_PIXELS // SIZE**2)
    outputs(together, images, names)
    assert together.together.checked


def test_where_the_batch_moves_inward_each_item_runs_alone():
    moved, images, names = replay(inward)
    assert not moved.together.possible(images)
    outputs(moved, images, names)
    assert not moved.together.checked
    assert replay(nn.Identity())[0].together.possible(images)


def test_the_base_values_stay_as_they_are():
    """A SiLU in the memory of its input may write only into an item's own values."""
    together, images, names = replay(nn.Identity(), width=6)
    first, second = (outputs(together, images, names) for _ in range(2))
    with torch.inference_mode():
        values = together._base_values(images, frozenset(range(len(together._traced.nodes))))
        kept = {index: value.clone() for index, value in values.items() if isinstance(value, Tensor)}
        nodes = [together._steps[name].nodes for name in names]
        overrides = [together._overrides(together._items[name]) for name in names]
        found = together.together.run(values, nodes, overrides, together._output)
    assert all(torch.equal(values[index], value) for index, value in kept.items())
    assert all(torch.equal(output, first[name]) for name, output in zip(names, found, strict=True))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_rows_that_are_not_wanted_are_not_run():
    whole, images, names = replay(nn.Identity())
    rows, _, _ = replay(nn.Identity(), rows=(4, 8))
    everything, part = outputs(whole, images, names), outputs(rows, images, names)
    assert all(torch.equal(everything[name][:, 4:], part[name][:, 4:]) for name in everything)
    assert all(torch.equal(part[name][:, :4], everything[None][:, :4]) for name in names)
    assert rows.shares()["third._input_quantizer"] == rows.shares()["second._input_quantizer"] == 0.0
    assert rows.shares()["first._input_quantizer"] == 0.5 < whole.shares()["first._input_quantizer"] == 1.0


def test_tight_memory_gives_the_same():
    wide, images, names = replay(nn.Identity())
    expected = outputs(wide, images, names)
    for memory in (0, wide.kept_bytes(names) // 2):
        found = outputs(wide, images, names, memory)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
