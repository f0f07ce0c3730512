"""Quantization of any torch module: batch-norms folded, layers swapped, scales shared along the traced data flow."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

from yoloqat.config import MethodSpec, QuantConfig
from yoloqat.errors import CalibrationError, ConfigError
from yoloqat.quant.calib import HistogramCalibrator
from yoloqat.quant.contexts import collecting
from yoloqat.quant.graph.trace import Ref, trace
from yoloqat.quant.modules import QUANT_MODULES
from yoloqat.quant.placement import place_quantizers
from yoloqat.quant.sharing import share_quantizers
from yoloqat.quant.swap import activation_quantizers, float_reasons, quantized_layers, swap_layers, swappable_layers


def _fuse_transposed(layer: _ConvTransposeNd, norm: Any) -> _ConvTransposeNd:
    """Return a transposed convolution of any number of groups with the batch-norm behind it folded into it."""
    fused, groups = copy.deepcopy(layer), layer.groups
    factor = torch.rsqrt(norm.running_var + norm.eps)
    factor = factor if norm.weight is None else factor * norm.weight
    inputs, outputs, *kernel = layer.weight.shape
    weight = layer.weight.reshape(groups, inputs // groups, outputs, -1) * factor.reshape(groups, 1, outputs, 1)
    bias = -norm.running_mean if layer.bias is None else layer.bias - norm.running_mean
    bias = bias * factor if norm.bias is None else bias * factor + norm.bias
    fused.weight = nn.Parameter(weight.detach().reshape(inputs, outputs, *kernel), layer.weight.requires_grad)
    fused.bias = nn.Parameter(bias.detach(), layer.weight.requires_grad)
    return fused


_FUSED: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.Conv1d: fuse_conv_bn_eval,
    nn.Conv2d: fuse_conv_bn_eval,
    nn.Conv3d: fuse_conv_bn_eval,
    nn.Linear: fuse_linear_bn_eval,
    nn.ConvTranspose1d: _fuse_transposed,
    nn.ConvTranspose2d: _fuse_transposed,
    nn.ConvTranspose3d: _fuse_transposed,
}
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def quantize_module(module: nn.Module, example: Tensor, config: QuantConfig | None = None) -> nn.Module:
    """Return a fake-quantized copy of a module, ready to calibrate; the module itself is not changed.

    Batch-norms are folded into the layers they follow. Until it is calibrated, the copy takes the range of each tensor
    that passes. It can be trained like any module (QAT): gradients pass rounding by the straight-through estimator.

    Args:
        module: Any module that `torch.export` can trace.
        example: An input of the shape that it is used with, float32, on the module's device.
        config: Schemes, patterns of layers to leave float, recipes; None takes the defaults: symmetric 8 bits, per tensor
            for activations and per output channel for weights.

    Returns:
        The copy in evaluation mode.

    Raises:
        ConfigError: No layer is left to quantize, two layers share one weight, or the example is not float32.
        ModelError: The module cannot be traced.
        PatternError: A pattern matches no layer.
    """
    config = config or QuantConfig()
    if example.dtype != torch.float32:
        raise ConfigError(
            f"example is of {example.dtype}",
            expected="float32, which fake quantization computes in",
            hint="convert both",
        )
    quantized = fold_batch_norms(module, example)
    floats = float_reasons(quantized, config)
    names = [name for name in swappable_layers(quantized) if name not in floats]
    if not names:
        raise ConfigError(
            f"module {type(module).__name__} has {len(floats)} layers with a quantized form, all of them left float",
            expected=f"at least one of {', '.join(kind.__name__ for kind, _ in QUANT_MODULES)} to quantize",
            hint="ignore fewer layers, or use these classes themselves",
        )
    swap_layers(quantized, names, config)
    plan = place_quantizers(quantized, example, config, floats=floats)
    _check_untied(quantized, [name for name, _ in quantized_layers(quantized)])
    share_quantizers(quantized, plan.aliases)
    for _, layer in quantized_layers(quantized):
        layer.calibrate_weight()
    return quantized


def _check_untied(module: nn.Module, names: list[str]) -> None:
    """Refuse what the exporter would merge into one layer of one name."""
    first = {id(module.get_submodule(name).weight): name for name in reversed(names)}
    kinds = tuple(kind for kind, _ in QUANT_MODULES)
    for name, layer in module.named_modules(remove_duplicate=False):
        owner = first.get(id(layer.weight)) if isinstance(layer, kinds) else None
        if owner is not None and owner != name:
            raise ConfigError(
                f"layers '{owner}' and '{name}' share one weight",
                expected="a weight for each layer to quantize",
                hint="give one of them a copy, or leave both float",
            )


def calibrate_module(module: nn.Module, batches: Iterable[Tensor], method: str | MethodSpec = "mse") -> nn.Module:
    """Return a copy of a quantized module whose activation ranges come from ``batches``.

    Args:
        module: From :func:`quantize_module`; not changed.
        batches: Inputs of the module, one forward each.
        method: ``"max"``, ``"entropy"``, ``"mse"`` or ``"percentile-99.9"``.

    Raises:
        CalibrationError: The module has no quantizers, no batch reached one of them, or a batch held NaN or Inf.
        ConfigError: The method is unknown.
    """
    spec = MethodSpec.parse(method) if isinstance(method, str) else method
    calibrated = copy.deepcopy(module)
    quantizers = dict(activation_quantizers(calibrated))
    if not quantizers:
        raise CalibrationError(
            f"module {type(module).__name__} has {len(quantizers)} quantizers",
            expected="a module that quantize_module returned",
            hint="quantize it first",
        )
    training = calibrated.training
    collectors = {
        name: HistogramCalibrator(quantizer.scheme.bits, unsigned=quantizer.scheme.unsigned)
        for name, quantizer in quantizers.items()
    }
    kept = {name: quantizer._calibrator for name, quantizer in quantizers.items()}
    for name, quantizer in quantizers.items():
        quantizer._calibrator = collectors[name]
    count = 0
    with torch.inference_mode(), collecting(calibrated.eval()):
        for batch in batches:
            calibrated(batch)
            count += 1
    for name, quantizer in quantizers.items():
        quantizer._calibrator = kept[name]
        histogram = collectors[name].histogram()
        if histogram is None:
            raise CalibrationError(
                f"quantizer '{name}' was not reached by {count} batches",
                expected="at least one batch through every layer",
                hint="pass more batches, or leave its layer float",
            )
        quantizer.load_histogram(histogram, spec)
    return calibrated.train(training)


def fold_batch_norms(module: nn.Module, example: Tensor) -> nn.Module:
    """Return a copy of a module in evaluation mode, with each batch-norm folded into the layer whose only reader it is.

    Args:
        module: Not changed.
        example: An input, float32, on the module's device.

    Raises:
        ModelError: The module cannot be traced.
    """
    folded = copy.deepcopy(module).eval()
    if not any(isinstance(child, _NORMS) for child in folded.modules()):
        return folded
    traced = trace(folded, example)
    readers, children = traced.readers(), dict(folded.named_modules())
    uses: dict[str, int] = {}
    for node in traced.nodes:
        if type(children.get(node.module)) in _FUSED:
            uses[node.module] = uses.get(node.module, 0) + 1
    for node in traced.nodes:
        norm = children.get(node.module)
        if (
            not isinstance(norm, _NORMS)
            or norm.running_mean is None
            or not isinstance(node.args[0] if node.args else None, Ref)
        ):
            continue
        source = traced.nodes[node.args[0].index]
        layer = children.get(source.module)
        fuse = None if layer is None else _FUSED.get(type(layer))
        if fuse is None or readers[source.index] != (node.index,) or uses[source.module] != 1:
            continue
        _replace(folded, source.module, fuse(layer, norm))
        _replace(folded, node.module, nn.Identity())
    return folded


def _replace(module: nn.Module, name: str, child: nn.Module) -> None:
    path, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(path), attribute, child)
