"""Blocks with quantizers in their own forward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.quant import QuantBlock, activation_quantizers, block_locations, residual_roles, swap_blocks


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Sub(Skip):
    """A subclass, which may compute anything."""


class QuantSkip(QuantBlock, Skip):
    @classmethod
    def roles(cls, module: nn.Module, config: QuantConfig) -> tuple[str, ...]:
        return residual_roles(config, "")

    def forward(self, x: Tensor) -> Tensor:
        return self.residual_add(x, self.inner(x))


FORMS = {Skip: QuantSkip}


@pytest.mark.parametrize(
    ("adds", "roles"),
    [("none", ()), ("residual", ("residual", "residual2")), ("both", ("residual", "branch", "residual2", "branch2"))],
)
def test_the_recipe_says_which_inputs(adds, roles):
    assert residual_roles(QuantConfig(adds=adds), "", "2") == roles


def test_a_block_is_replaced_wherever_it_is_registered_and_shares_its_layers():
    inner = Skip()
    net = nn.ModuleDict({"a": nn.Sequential(inner, Sub()), "b": inner}).eval()
    config = QuantConfig(adds="both", activations=QuantScheme(bits=4))
    assert block_locations(net, FORMS, config) == ["a.0._residual_quantizer", "a.0._branch_quantizer"]
    assert type(net["b"]) is Skip
    swap_blocks(net, FORMS, config)
    block = net["b"]
    assert type(block) is QuantSkip
    assert net["a"][0] is block
    assert type(net["a"][1]) is Sub
    assert block.inner is inner.inner
    assert [name for name, _ in activation_quantizers(net)] == ["a.0._residual_quantizer", "a.0._branch_quantizer"]
    assert block._residual_quantizer.scheme.bits == 4
    x = torch.rand(1, 3, 2, 2)
    block._residual_quantizer.amax, block._branch_quantizer.amax = 7.0, 7.0
    assert torch.equal(block(x), torch.round(x) + torch.round(inner.inner(x)).clamp(-8, 7))
    assert torch.equal(inner(x), x + inner.inner(x)), "the float block keeps working"


def test_blocks_inside_blocks_are_replaced_too():
    outer = Skip()
    outer.inner = Skip()
    net = nn.Sequential(outer)
    swap_blocks(net, FORMS, QuantConfig())
    assert type(net[0].inner) is QuantSkip


def test_without_a_recipe_nothing_is_replaced():
    net = nn.Sequential(Skip())
    swap_blocks(net, FORMS, QuantConfig(adds="none"))
    assert type(net[0]) is Skip


def test_roles_are_the_business_of_subclasses():
    with pytest.raises(NotImplementedError):
        QuantBlock.roles(Skip(), QuantConfig())
