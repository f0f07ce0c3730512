"""Blocks: which there are, what each reads, and the errors by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from yoloqat.predictor import ModelInfo
from yoloqat.quant import calibrate_module, quantize_module
from yoloqat.quant.graph import trace
from yoloqat.refining.blocks import Blocks, relative_error, relative_errors
from yoloqat.refining.objective import BOXES, detection_objective


class Joined(nn.Module):
    """A block, one that reads it, and a third that reads both joined."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.last(torch.cat((x, self.second(x)), 1))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def module(images: Tensor) -> nn.Module:
    torch.manual_seed(0)
    return calibrate_module(quantize_module(Joined().eval(), images), [images], "max")


def made(module: nn.Module, images: Tensor, floating: dict[str, Tensor] | None = None) -> Blocks:
    return Blocks(module, trace(module, images), floating or {}, relative_errors)


@torch.no_grad()
def test_the_errors_are_those_of_the_modules(module: nn.Module, images: Tensor) -> None:
    blocks = made(module, images)
    assert blocks.names == ("first", "second", "last")
    found = blocks.errors(images, lambda index, wanted, given: given)
    x = nn.functional.conv2d(images, module.first.weight, module.first.bias).relu()
    y = nn.functional.conv2d(x, module.second.weight, module.second.bias)
    z = nn.functional.conv2d(torch.cat((x, y), 1), module.last.weight, module.last.bias)
    qx = module.first(images).relu()
    qy = module.second(qx)
    assert len(found) == 3
    assert float(found["second"]) == pytest.approx(float((qy - y).square().sum() / y.square().sum()), rel=1e-4)
    assert float(found["last"]) == pytest.approx(float(relative_error(module(images), z)), rel=1e-4)
    assert float(found["first"]) > 0


@torch.no_grad()
def test_a_block_that_reads_float_values_has_its_own_error_alone(module: nn.Module, images: Tensor) -> None:
    own = made(module, images).errors(images, lambda index, wanted, given: wanted)
    x = nn.functional.conv2d(images, module.first.weight, module.first.bias).relu()
    y = nn.functional.conv2d(x, module.second.weight, module.second.bias)
    assert float(own["second"]) == pytest.approx(float(relative_error(module.second(x), y)), rel=1e-4)


def test_no_gradient_crosses_a_boundary_that_lets_none_through(module: nn.Module, images: Tensor) -> None:
    module.requires_grad_(True)
    made(module, images).errors(images, lambda index, wanted, given: given.detach())["last"].backward()
    assert module.last.weight.grad is not None
    assert module.first.weight.grad is None
    assert module.second.weight.grad is None


@torch.no_grad()
def test_the_float_model_is_the_given_one(module: nn.Module, images: Tensor) -> None:
    floating = {name: value.clone() for name, value in module.named_parameters()}
    before = made(module, images).errors(images, lambda index, wanted, given: given)
    module.last.bias += 1.0
    assert made(module, images).errors(images, lambda index, wanted, given: given)["last"] < 0.1
    moved = made(module, images, floating).errors(images, lambda index, wanted, given: given)
    assert moved["last"] > 10 * before["last"]


def test_who_reads_through_a_quantizer(module: nn.Module, images: Tensor) -> None:
    users = made(module, images).users()
    assert sorted(set().union(*users.values())) == ["first", "last", "second"]
    assert any({"second", "last"} <= blocks for blocks in users.values())


def test_the_objective_is_d_and_the_distance_of_boxes() -> None:
    wanted = torch.zeros(1, 6, 2)
    wanted[0, 4] = torch.tensor([0.8, 0.2])
    given = wanted.clone()
    given[0, 4, 0], given[0, 5, 1] = 0.7, 0.1
    objective = detection_objective(ModelInfo({0: "a", 1: "b"}, stride=32))
    assert float(objective([wanted], [wanted])) == 0.0
    assert float(objective([given], [wanted])) == pytest.approx(0.2)
    given[0, :4, 0] += 8.0
    assert float(objective([given], [wanted])) == pytest.approx(0.2 + BOXES * 0.25 * 0.8)


def test_masks_and_prototypes_count_and_a_head_with_its_own_nms_does_not() -> None:
    wanted = torch.rand(1, 4 + 1 + 3, 5, generator=torch.Generator().manual_seed(0)) + 0.1
    given, protos = wanted.clone(), torch.ones(1, 3, 4, 4)
    given[:, 5:] *= 1.1
    objective = detection_objective(ModelInfo({0: "a"}, task="segment"))
    assert float(objective([given, protos], [wanted, protos])) == pytest.approx(0.01, rel=1e-3)
    assert float(objective([wanted, 2 * protos], [wanted, protos])) == pytest.approx(1.0)
    assert float(detection_objective(ModelInfo({0: "a"}, end2end=True))([given], [wanted])) == 0.0
