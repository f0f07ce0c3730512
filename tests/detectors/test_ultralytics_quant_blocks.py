"""Our forms of Ultralytics' blocks compute what the blocks compute, and quantize what they are asked to."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from yoloqat.config import QuantConfig
from yoloqat.detectors.quant_blocks import block_forms
from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.quant import activation_quantizers, quantization_disabled, swap_blocks

CHANNELS = 64
ADD, TWO = {"residual", "branch"}, {"residual", "branch", "residual2", "branch2"}
PRODUCTS = {"query", "key", "weights", "value"}
BLOCKS: list[tuple[str, dict[str, Any], set[str]]] = [
    ("Bottleneck", {"c1": CHANNELS, "c2": CHANNELS}, ADD),
    ("Bottleneck", {"c1": CHANNELS, "c2": CHANNELS, "shortcut": False}, set()),
    ("RepBottleneck", {"c1": CHANNELS, "c2": CHANNELS}, ADD),
    ("CIB", {"c1": CHANNELS, "c2": CHANNELS}, ADD),
    ("CIB", {"c1": CHANNELS, "c2": 32}, set()),
    ("C1", {"c1": CHANNELS, "c2": 32}, ADD),
    ("GhostBottleneck", {"c1": CHANNELS, "c2": CHANNELS}, ADD),
    ("GhostBottleneck", {"c1": CHANNELS, "c2": 32, "s": 2}, ADD),
    ("ResNetBlock", {"c1": CHANNELS, "c2": 16}, ADD),
    ("ResNetBlock", {"c1": CHANNELS, "c2": 32, "s": 2}, ADD),
    ("SPPF", {"c1": CHANNELS, "c2": CHANNELS}, set()),
    ("SPPF", {"c1": CHANNELS, "c2": CHANNELS, "n": 2, "shortcut": True}, ADD),
    ("HGBlock", {"c1": CHANNELS, "cm": 16, "c2": CHANNELS, "shortcut": True}, ADD),
    ("HGBlock", {"c1": CHANNELS, "cm": 16, "c2": CHANNELS, "lightconv": True}, set()),
    ("PSABlock", {"c": CHANNELS, "num_heads": 2}, TWO | PRODUCTS),
    ("PSABlock", {"c": CHANNELS, "num_heads": 2, "shortcut": False}, PRODUCTS),
    ("PSA", {"c1": 2 * CHANNELS, "c2": 2 * CHANNELS}, TWO | PRODUCTS),
    ("ABlock", {"dim": CHANNELS, "num_heads": 2, "area": 4}, TWO | PRODUCTS),
    ("A2C2f", {"c1": CHANNELS, "c2": CHANNELS, "a2": True, "residual": True}, ADD | TWO | PRODUCTS),
    ("A2C2f", {"c1": CHANNELS, "c2": CHANNELS, "a2": False}, ADD),
]


def module_of(name: str, arguments: dict[str, Any]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(getattr(ultralytics_module("nn.modules.block"), name)(**arguments)).eval()


@pytest.mark.parametrize(
    ("name", "arguments", "roles"), BLOCKS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_form_computes_what_its_block_does(name: str, arguments: dict[str, Any], roles: set[str]) -> None:
    net = module_of(name, arguments)
    channels = arguments.get("c1", arguments.get("c", arguments.get("dim")))
    x = torch.rand(2, channels, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5
    swapped = copy.deepcopy(net)
    swap_blocks(swapped, block_forms("ultralytics"), QuantConfig(adds="both", attention=True))
    found = dict(activation_quantizers(swapped))
    assert {path.rpartition(".")[2].strip("_").removesuffix("_quantizer") for path in found} == roles
    with torch.inference_mode():
        wanted = net(x)
        with quantization_disabled(swapped):
            assert torch.equal(swapped(x), wanted)
        for quantizer in found.values():  # each of them is on the way of the data
            with quantization_disabled(swapped):
                quantizer.enable()
                quantizer.amax = 1e-3
                assert not torch.equal(swapped(x), wanted), quantizer.name


def test_every_form_is_a_subclass_of_its_block() -> None:
    forms = block_forms("ultralytics")
    assert len(forms) == 15
    assert all(issubclass(form, block) for block, form in forms.items())
    assert block_forms("unheard of") == {}


def test_the_residual_block_of_text_models() -> None:
    block = ultralytics_module("nn.modules.block")
    net = nn.Sequential(block.Residual(block.SwiGLUFFN(8, 8))).eval()
    swapped = copy.deepcopy(net)
    swap_blocks(swapped, block_forms("ultralytics"), QuantConfig())
    x = torch.rand(2, 3, 8)
    with torch.inference_mode(), quantization_disabled(swapped):
        assert torch.equal(swapped(x), net(x))
