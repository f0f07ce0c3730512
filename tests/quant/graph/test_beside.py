"""Float layers that read what quantized layers read too."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from yoloqat.config import QuantConfig
from yoloqat.errors import ModelError
from yoloqat.quant import (
    calibrate_module,
    module_qparams,
    quantization_disabled,
    quantize_module,
    swap_dequantized,
    swap_layers,
)
from yoloqat.quant.dequantized import DequantizedConv2d
from yoloqat.quant.graph import beside_quantized, dequantized_readers, trace

IMAGES = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Beside(nn.Module):
    """A quantized and a depthwise convolution that read one tensor, and a depthwise one that reads another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.box = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
        self.shared = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.alone = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tensor = self.stem(images).relu()
        result: torch.Tensor = self.box(tensor) + self.alone(self.shared(tensor).relu())
        return result


def test_depthwise_layers_beside_a_quantized_reader_are_found() -> None:
    model = Beside().eval()
    swap_layers(model, ["stem", "box"], QuantConfig())
    traced = trace(model, torch.zeros(1, 3, 8, 8))
    assert beside_quantized(traced, {"shared", "alone"}) == ["shared"]
    assert beside_quantized(traced, {"alone"}) == []


class Branch(nn.Module):
    """A convolution of three channels per group, which stays float, beside a quantized one; both read ``body``.

    Args:
        between: What else is made of the tensor: ``"pool"``, which moves its values, ``"mean"`` or ``"output"``, which read them.
    """

    def __init__(self, between: str = "") -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 1)
        self.last, self.pred = nn.Conv2d(12, 4, 1), nn.Conv2d(12, 12, 1, groups=4)
        self.between = between

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        tensor = nn.functional.silu(self.body(self.stem(images)))
        read = nn.functional.max_pool2d(tensor, 3, 1, 1) if self.between == "pool" else tensor
        results = (self.last(read), self.pred(tensor))
        if self.between == "mean":
            return (*results, tensor.mean((2, 3)))
        return (*results, tensor) if self.between == "output" else results


TENSORRT = QuantConfig(target="tensorrt")


def fed(model: nn.Module, config: QuantConfig = TENSORRT) -> list[str]:
    quantized = quantize_module(model.eval(), IMAGES, config)
    return [name for name, layer in quantized.named_modules() if isinstance(layer, DequantizedConv2d)]


@pytest.mark.parametrize(
    ("between", "config", "expected"),
    [
        ("", TENSORRT, ["pred"]),
        ("pool", TENSORRT, ["pred"]),
        ("", QuantConfig(), []),  # an engine that writes a tensor twice loses little
        ("pool", QuantConfig(target="tensorrt", unmerge=("last._input_quantizer",)), []),
        ("mean", TENSORRT, []),
        ("output", TENSORRT, []),
        ("", QuantConfig(target="tensorrt", ignore=("pred",)), []),  # the user's own choice
        ("", QuantConfig(target="tensorrt", ignore=("last",)), []),  # nobody wants integers
        ("", QuantConfig(target="tensorrt", ignore=("body",)), []),  # a float layer writes float
    ],
)
def test_a_float_convolution_reads_dequantized_values_where_the_layer_before_then_writes_integers(
    between: str, config: QuantConfig, expected: list[str]
) -> None:
    assert fed(Branch(between), config) == expected


def test_such_a_convolution_uses_the_quantized_readers_scale_and_its_float_weight() -> None:
    model = Branch().eval()
    quantized = calibrate_module(quantize_module(model, IMAGES, TENSORRT), [IMAGES], "max")
    assert quantized.pred._dequantized_quantizer is quantized.last._input_quantizer
    seen: list[Tensor] = []
    quantized.last.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    result = quantized(IMAGES)[1]
    assert torch.equal(result, model.pred(quantized.last._input_quantizer(seen[0])))
    assert set(module_qparams(quantized).weights) == {"stem", "body", "last"}
    assert module_qparams(copy.deepcopy(quantized)).activations.keys() >= {"pred._dequantized_quantizer"}
    with quantization_disabled(quantized):
        assert torch.equal(quantized(IMAGES)[1], model(IMAGES)[1])


def test_depthwise_layers_are_quantized_by_default_and_fed_where_none_are() -> None:
    quantized = quantize_module(Beside().eval(), IMAGES)
    assert type(quantized.shared).__name__ == "QuantConv2d"
    assert fed(Beside(), QuantConfig(target="tensorrt", depthwise=False)) == ["shared"]


def test_what_is_no_plain_convolution_is_refused() -> None:
    with pytest.raises(ModelError, match="layer 'between' is missing"):
        swap_dequantized(Branch(), ["between"], QuantConfig())
    with pytest.raises(ModelError, match="layer '0' is Linear"):
        swap_dequantized(nn.Sequential(nn.Linear(2, 2)), ["0"], QuantConfig())


def test_a_layer_is_found_once_the_depthwise_one_beside_it_is_going_to_be_quantized() -> None:
    class Two(Beside):
        def forward(self, images: Tensor) -> Tensor:
            tensor = self.stem(images).relu()
            result: Tensor = self.shared(tensor) + self.box(tensor)
            return result

    model = Two().eval()
    swap_layers(model, ["stem"], QuantConfig())
    traced = trace(model, IMAGES)
    assert dequantized_readers(model, traced, QuantConfig(), {"box"}) == []
    assert dequantized_readers(model, traced, QuantConfig(), {"box"}, beside=["shared"]) == ["box"]
