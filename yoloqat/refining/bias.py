"""Bias correction by the error after the activation: layer by layer, channel by channel, without labels.

Quantization moves the mean of a layer's outputs, and the layer's bias can move it back. What counts is what the next layer
reads: the mean before the activation is ruled by values that the flat side of SiLU makes equal and by outliers that are
clipped, and matching it ruins a model. Here each channel takes the bias of least squared error after the activation, and keeps
its own where none is better. Earlier layers come first, so that each sees what the corrected ones before it give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloqat.errors import CalibrationError
from yoloqat.progress import Progress, silent
from yoloqat.quant.graph import Node, Ref, Traced, trace
from yoloqat.quant.graph.cost import CONVOLUTIONS, LINEAR, TRANSPOSED
from yoloqat.quant.graph.flow import operator_name
from yoloqat.quant.graph.trace import PARAMETER, PLACEHOLDER
from yoloqat.refining.lockstep import Lockstep

STEPS = 3
"""Gauss-Newton steps; more change nothing that can be measured."""

ACTIVATIONS = frozenset(
    {
        "elu",
        "gelu",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "leaky_relu",
        "mish",
        "relu",
        "relu6",
        "sigmoid",
        "silu",
        "tanh",
    }
)
"""Operators that map each value alone."""

Activation = Callable[[Tensor], Tensor]
Outputs = Sequence[tuple[Tensor, Tensor]]
"""What a layer gives in the float and in the quantized model, by batch, shape (images, channels, positions)."""


@dataclass(frozen=True)
class BiasCorrection:
    """What a correction did.

    Attributes:
        shifts: What was added to the bias of every corrected layer, in the order of execution, shape (channels,).
        errors: Of these layers the squared error after the activation, before and after, relative to the squared float output.
        skipped: Quantized layers that were left alone, and why.
    """

    shifts: dict[str, Tensor]
    errors: dict[str, tuple[float, float]]
    skipped: dict[str, str]


@dataclass(frozen=True)
class _Layer:
    """One layer of the graph: its name, that of its bias, the activation that alone reads it, the axis of its channels."""

    name: str
    bias: str
    activation: Activation | None
    axis: int

    def by_channel(self, value: Tensor) -> Tensor:
        """Return an output of it as (images, channels, positions)."""
        return value.movedim(self.axis, 1).flatten(2)

    def shaped(self, shift: Tensor, value: Tensor) -> Tensor:
        """Return a shift of its bias in a shape that broadcasts to an output of it."""
        return shift.reshape([-1 if axis == self.axis % value.dim() else 1 for axis in range(value.dim())])


def correct_biases(
    module: nn.Module,
    batches: Sequence[Tensor],
    *,
    floating: Mapping[str, Tensor] | None = None,
    skip: Mapping[str, str] | None = None,
    found: Mapping[str, Tensor] | None = None,
    keep: Callable[[Mapping[str, Tensor]], None] | None = None,
    progress: Progress = silent,
) -> BiasCorrection:
    """Correct the biases of a calibrated module's quantized layers, in place.

    A layer without a bias, or one that runs more than once in a forward, stays as it is.

    Args:
        module: In evaluation mode, with its quantizers on and in the memory format that it will run in.
        batches: Images without padding, all of one shape (batch, channels, height, width), float32, on the module's device.
        floating: The float model's parameters by name, where the module's are others; its images' outputs are wanted.
        skip: Layers to leave alone, and why.
        found: The shifts by layer that an interrupted correction of the same module and images had found.
        keep: Told after every layer of all shifts so far.
        progress: Told of every finished layer.

    Raises:
        CalibrationError: There are no images.
        ModelError: The module cannot be traced.
    """
    if not batches:
        raise CalibrationError(
            f"there are {len(batches)} batches of images to correct biases on",
            expected="at least one",
            hint="name images to refine on",
        )
    traced = trace(module, batches[0])
    lockstep = Lockstep(module, traced, batches, floating)
    layers, skipped = _layers(traced, lockstep, skip or {})
    parameters = dict(module.named_parameters())
    shifts: dict[str, Tensor] = {}
    errors: dict[str, tuple[float, float]] = {}
    for node in traced.nodes:
        lockstep.run(node)
        layer = layers.get(node.index)
        if layer is not None:
            outputs = [(layer.by_channel(a), layer.by_channel(b)) for a, b in lockstep.values(node)]
            shift = (found or {}).get(layer.name)
            shift = best_shift(outputs, layer.activation) if shift is None else shift.to(outputs[0][0].device)
            errors[layer.name] = _relative_errors(outputs, layer.activation, shift)
            with torch.no_grad():
                parameters[layer.bias].add_(shift)
            lockstep.add(node, layer.shaped(shift, lockstep.values(node)[0][1]))
            shifts[layer.name] = shift
            if keep is not None:
                keep(shifts)
            progress("bias", len(shifts), len(layers))
        lockstep.free(node)
    return BiasCorrection(shifts, errors, skipped)


def best_shift(outputs: Outputs, activation: Activation | None) -> Tensor:
    """Return for each channel what added to the quantized output brings it nearest to the float one after the activation.

    Nearest by the squared error over all images and positions; :data:`STEPS` Gauss-Newton steps, each kept where it lowers the
    error. A channel that nothing improves gets 0.

    Args:
        outputs: Of the layer, before the activation.
        activation: Maps each value alone; None is none.

    Returns:
        Shape (channels,), dtype and device of the outputs.
    """
    wanted = [floating if activation is None else activation(floating) for floating, _ in outputs]
    best = torch.zeros_like(outputs[0][1][0, :, 0])
    error, gain, curvature = _about(outputs, wanted, activation, best)
    for _ in range(STEPS):
        tried = best + (gain / curvature.clamp_min(torch.finfo(torch.float64).tiny)).to(best)
        found = _about(outputs, wanted, activation, tried)
        better = found[0] < error  # also False where it is NaN
        best = torch.where(better, tried, best)
        error, gain, curvature = (
            torch.where(better, found[part], now) for part, now in enumerate((error, gain, curvature))
        )
    return best


def _about(
    outputs: Outputs, wanted: Sequence[Tensor], activation: Activation | None, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return by channel, float64, the squared error at a shift, and the two sums whose quotient is the Gauss-Newton step."""
    sums = torch.zeros(3, len(shift), dtype=torch.float64, device=shift.device)
    for (_, quantized), target in zip(outputs, wanted, strict=True):
        value, slope = _with_slope(activation, quantized + shift[:, None])
        missing = target - value
        for number, terms in enumerate((missing.square(), slope * missing, slope.square())):
            sums[number] += terms.sum((0, 2), dtype=torch.float64)
    return sums[0], sums[1], sums[2]


def _with_slope(activation: Activation | None, z: Tensor) -> tuple[Tensor, Tensor]:
    if activation is None:
        return z, torch.ones_like(z)
    with torch.enable_grad():
        z = z.detach().requires_grad_(True)
        value = activation(z)
        (slope,) = torch.autograd.grad(value.sum(), z)
    return value.detach(), slope


def _relative_errors(outputs: Outputs, activation: Activation | None, shift: Tensor) -> tuple[float, float]:
    before = after = signal = 0.0
    for floating, quantized in outputs:
        wanted, given, moved = (
            value if activation is None else activation(value)
            for value in (floating, quantized, quantized + shift[:, None])
        )
        signal += float(wanted.square().sum(dtype=torch.float64))
        before += float((given - wanted).square().sum(dtype=torch.float64))
        after += float((moved - wanted).square().sum(dtype=torch.float64))
    return (before / signal, after / signal) if signal else (before, after)


def _layers(traced: Traced, lockstep: Lockstep, skip: Mapping[str, str]) -> tuple[dict[int, _Layer], dict[str, str]]:
    """Return the layers to correct by the position of their node, and those that are left alone with the reason."""
    readers = traced.readers()
    found: dict[int, _Layer] = {}
    skipped: dict[str, str] = {}
    runs: dict[str, list[int]] = {}
    for node, name in _quantized(traced, lockstep):
        runs.setdefault(name, []).append(node.index)
        bias = node.args[2] if len(node.args) > len(("input", "weight")) else None
        if name in skip:
            skipped[name] = skip[name]
        elif not isinstance(bias, Ref) or traced.nodes[bias.index].op != PARAMETER:
            skipped[name] = "has no bias"
        else:
            target = str(traced.nodes[bias.index].target)
            axis = -1 if node.op.startswith(LINEAR) else 1
            found[node.index] = _Layer(name, target, _activation(traced, readers[node.index]), axis)
    for name, nodes in runs.items():
        if len(nodes) > 1 and nodes[0] in found:
            skipped[name] = f"runs {len(nodes)} times in a forward"
            found = {index: layer for index, layer in found.items() if index not in nodes}
    return found, skipped


def _quantized(traced: Traced, lockstep: Lockstep) -> Iterator[tuple[Node, str]]:
    """Yield the nodes that apply a quantized layer's weight, with its name."""
    for node in traced.nodes:
        if node.op.startswith((*CONVOLUTIONS, *TRANSPOSED, *LINEAR)) and isinstance(node.args[1], Ref):
            weight = traced.nodes[node.args[1].index]
            name = lockstep.layer_name(weight) if weight.op == PLACEHOLDER else None
            if name is not None:
                yield node, name


def _activation(traced: Traced, readers: Sequence[int]) -> Activation | None:
    """Return the activation that is the only reader of a value, with its arguments; None where there is none."""
    if len(readers) != 1:
        return None
    node = traced.nodes[readers[0]]
    function = node.function
    if operator_name(node).rstrip("_") not in ACTIVATIONS or function is None:
        return None
    return lambda value: function(value, *node.args[1:], **node.kwargs)
