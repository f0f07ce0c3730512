"""Plans of small networks, traced."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from yoloqat.config import QuantConfig
from yoloqat.errors import ModelError, PatternError
from yoloqat.quant import QuantBlock, residual_roles, swap_blocks, swap_layers, swappable_layers
from yoloqat.quant.graph import PlacementPlan, Traced, plan_module, plan_text, trace


class Skip(nn.Module):
    """A convolution and a skip around it."""

    def __init__(self, *, depthwise: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1, groups=8 if depthwise else 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class QuantSkip(QuantBlock, Skip):
    @classmethod
    def roles(cls, module: nn.Module, config: QuantConfig) -> tuple[str, ...]:
        return residual_roles(config, "")

    def forward(self, x: Tensor) -> Tensor:
        return self.residual_add(x, self.conv(x))


class Odd(nn.Conv2d):
    """A convolution of a class that nobody knows."""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.skip = Skip()
        self.light = Skip(depthwise=True)
        self.odd = Odd(16, 4, 1)
        self.last = nn.Conv2d(4, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.stem(images))
        y = self.skip(x)
        return self.last(torch.cat([self.odd(torch.cat([self.light(y), y], 1)), self.odd(torch.cat([y, x], 1))], 0))


FLOATS = {"light.conv": "depthwise"}
FORMS = {Skip: QuantSkip}


def planned(config: QuantConfig, forms: Mapping[type[nn.Module], type[QuantBlock]] = FORMS) -> PlacementPlan:
    net = Net().eval()
    swap_layers(net, [name for name in swappable_layers(net) if name not in FLOATS], config)
    swap_blocks(net, forms, config)
    traced: Traced = trace(net, torch.zeros(1, 3, 4, 4))
    return plan_module(net, traced, config, floats=FLOATS)


def groups(plan: PlacementPlan) -> list[list[str]]:
    return [list(group.locations) for group in plan.groups]


STEM, CONV, LAST = "stem._input_quantizer", "skip.conv._input_quantizer", "last._input_quantizer"
RESIDUAL, BRANCH, LIGHT = "skip._residual_quantizer", "skip._branch_quantizer", "light._residual_quantizer"


def test_a_skip_shares_the_scale_of_its_tensor_and_one_behind_a_float_layer_stays_float():
    plan = planned(QuantConfig())
    assert groups(plan) == [[STEM], [CONV, RESIDUAL], [LAST]]
    assert plan.aliases == {RESIDUAL: CONV}
    assert plan.floats == {"light.conv": "depthwise", "light (residual)": "the Add follows no quantized layer"}
    assert plan.unreached == ("conv2d in odd (Odd): no quantized form of this module",) * 2


def test_both_inputs_of_an_add_have_one_scale():
    found = groups(planned(QuantConfig(adds="both", merge="tensor")))
    assert found == [[STEM], [CONV, RESIDUAL, BRANCH], [LIGHT, "light._branch_quantizer"], [LAST]]


def test_an_add_left_float_by_recipe_is_told():
    plan = planned(QuantConfig(adds="none"))
    assert groups(plan) == [[STEM], [CONV], [LAST]]
    assert plan.floats["add in skip (Skip)"] == "by recipe"


def test_an_add_that_nothing_reaches_is_told():
    plan = planned(QuantConfig(), forms={})
    assert plan.unreached[0] == "add in skip (Skip): no quantized form of this block"
    assert plan.floats["add in light (Skip)"] == "the Add follows no quantized layer"


def test_a_tensor_unmerged_by_name_takes_all_its_readers_along():
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3 if i == 0 else 8, 8, 1) for i in range(3))
            self.d = nn.Conv2d(16, 8, 1)

        def forward(self, images: Tensor) -> Tensor:
            x = self.a(images)
            return self.d(torch.cat([x, self.b(x) + self.c(x)], 1))

    def plan(config: QuantConfig) -> list[list[str]]:
        net = Joined().eval()
        swap_layers(net, swappable_layers(net), config)
        found = groups(plan_module(net, trace(net, torch.zeros(1, 3, 4, 4)), config, floats={}))
        return [[location.removesuffix("._input_quantizer") for location in group] for group in found]

    assert plan(QuantConfig()) == [["a"], ["b", "c", "d"]]
    assert plan(QuantConfig(unmerge=("c",))) == [["a"], ["b", "c"], ["d"]]
    assert plan(QuantConfig(unmerge=("d",))) == [["a"], ["b", "c"], ["d"]]
    assert plan(QuantConfig(merge="tensor")) == [["a"], ["b", "c"], ["d"]]
    with pytest.raises(PatternError, match="unmerge pattern 'e' matches no layer"):
        plan(QuantConfig(unmerge=("e",)))


def test_a_plan_comes_back_from_its_dict():
    plan = planned(QuantConfig())
    assert PlacementPlan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"version": 7}, "is of version 7"),
        ({"groups": None}, "is damaged"),
        ({"floats": 3}, "is damaged"),
        ({"groups": [{"x": []}]}, "has a scale that nothing reads"),
        ({"groups": [{}]}, "has a scale that nothing reads"),
    ],
)
def test_a_damaged_plan_is_told(damage, told):
    data = planned(QuantConfig()).to_dict() | damage
    with pytest.raises(ModelError, match=f"the stored placement {told}"):
        PlacementPlan.from_dict(data)


def test_a_plan_reads_as_lines():
    assert plan_text(planned(QuantConfig())).splitlines()[:6] == [
        "scale 0: 1 tensor, 1 reader",
        "  input -> stem",
        "scale 1: 1 tensor, 2 readers",
        "  :relu -> skip.conv, skip (residual)",
        "scale 2: 1 tensor, 1 reader",
        "  :cat#3 -> last",
    ]
