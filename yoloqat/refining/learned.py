"""What learned rounding moves: weights in integer steps, biases, ranges; and which blocks are the better for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloqat.quant import activation_quantizers, quantized_layers
from yoloqat.quant.graph.flow import block_of
from yoloqat.quant.learned_ranges import LearnedRanges
from yoloqat.quant.modules import QuantMixin
from yoloqat.refining.blocks import Blocks, Boundary

Saved = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class _Weight:
    """A weight that moves: its layer, by how many integer steps, from where, and the size of a step."""

    layer: QuantMixin
    moved: nn.Parameter
    start: Tensor
    scale: Tensor

    def pull_gradient(self) -> None:
        gradient = self.layer.weight.grad
        self.moved.grad = None if gradient is None else gradient * self.scale
        self.layer.weight.grad = None

    def push_value(self) -> None:
        self.layer.weight.copy_(self.start + self.scale * self.moved)


class Learned:
    """The learned tensors of a module with their optimizer.

    Args:
        module: Calibrated; its learned tensors ask for gradients until :meth:`settle`.
        blocks: Of the same module.
        skip: Layers that stay as they are.
        rates: Learning rates of weights (in integer steps), biases, and logarithms of ranges.
    """

    def __init__(
        self, module: nn.Module, blocks: Blocks, skip: Mapping[str, str], rates: tuple[float, float, float]
    ) -> None:
        self._module, self._blocks = module, blocks
        layers = {name: layer for name, layer in quantized_layers(module) if name not in skip}
        self._asked = {name: value.requires_grad for name, value in module.named_parameters()}
        module.requires_grad_(False)
        self._weights: dict[str, _Weight] = {}
        self._biases: dict[str, nn.Parameter] = {}
        for name, layer in layers.items():
            amax, high = layer._weight_quantizer.amax, layer._weight_quantizer.scheme.high
            weight: Tensor = layer.weight
            weight.requires_grad_(True)
            assert amax is not None  # noqa: S101 - weights are calibrated when layers are swapped
            self._weights[name] = _Weight(
                layer, nn.Parameter(torch.zeros_like(weight)), weight.detach().clone(), amax / high
            )
        for name, bias in module.named_parameters():
            owner, _, kind = name.rpartition(".")
            if kind == "bias" and owner not in skip and block_of(owner) in blocks.names:
                bias.requires_grad_(True)
                self._biases[owner] = bias
        self._start = self._saved(self._tensors())
        self._integers = self._rounded()
        self._ranges = LearnedRanges(module, weights=False)
        groups = (
            [weight.moved for weight in self._weights.values()],
            [*self._biases.values()],
            self._ranges.parameters,
        )
        self._optimizer = torch.optim.Adam(
            [{"params": group, "lr": rate} for group, rate in zip(groups, rates, strict=True) if group]
        )
        self._rates = [group["lr"] for group in self._optimizer.param_groups]

    def step(self, factor: float) -> None:
        """Move everything by its gradients, with the rates times a factor."""
        for weight in self._weights.values():
            weight.pull_gradient()
        self._ranges.pull_gradients()
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._push()

    @torch.no_grad()
    def _push(self) -> None:
        for weight in self._weights.values():
            weight.push_value()
        self._ranges.push_values()

    def state(self, done: int) -> Saved:
        """Return what :meth:`load` goes on from after so many steps."""
        saved = {"done": torch.tensor(done)}
        for name, parameter in self._parameters().items():
            saved[name] = parameter.detach().clone()
            for key, value in self._optimizer.state[parameter].items():
                saved[f"{name}/{key}"] = value.clone()
        return saved

    @torch.no_grad()
    def load(self, saved: Mapping[str, Tensor]) -> int:
        """Set the learned tensors and the optimizer from what :meth:`state` returned; return how many steps were done."""
        for name, parameter in self._parameters().items():
            parameter.copy_(saved[name])
            keys = [key for key in saved if key.startswith(f"{name}/")]
            if keys:
                places = {
                    key: "cpu" if saved[key].dim() == 0 and key.endswith("/step") else parameter.device for key in keys
                }
                self._optimizer.state[parameter] = {
                    key.removeprefix(f"{name}/"): saved[key].clone().to(places[key]) for key in keys
                }
        self._push()
        return int(saved["done"])

    def _parameters(self) -> dict[str, nn.Parameter]:
        found = {f"weight {name}": weight.moved for name, weight in self._weights.items()}
        found |= {f"bias {name}": bias for name, bias in self._biases.items()}
        ranges = self._ranges.state()
        return found | {f"range {name}": value for name, value in ranges.items() if isinstance(value, nn.Parameter)}

    @torch.no_grad()
    def settle(self) -> None:
        """Set weights to whole multiples of their scales, and ask for no more gradients."""
        self._ranges.release()
        for name, value in self._module.named_parameters():
            value.requires_grad_(self._asked[name])
        for weight in self._weights.values():
            weight.layer.weight.copy_(weight.layer._weight_quantizer(weight.layer.weight))

    @torch.no_grad()
    def compare(
        self, batches: Sequence[Tensor], boundary: Boundary
    ) -> tuple[dict[str, tuple[float, float]], tuple[str, ...]]:
        """Restore the blocks that are no better than they were on the same inputs.

        Inputs are what ``boundary`` makes of those that the learned model gives, the same for both. A block that is restored gets
        its ranges back, and whatever else reads through these is compared again.

        Returns:
            Of every block the error before and after, and the blocks that were restored.
        """
        restored: set[str] = set()
        while True:
            after, before = self._both(batches, boundary)
            worse = {name for name in before if not after[name] <= before[name]} - restored
            if not worse:
                return {name: (before[name], after[name]) for name in before}, tuple(sorted(restored))
            restored |= worse
            self._load({name: value for name, value in self._start.items() if self._owner(name) & restored})

    def _both(self, batches: Sequence[Tensor], boundary: Boundary) -> tuple[dict[str, float], dict[str, float]]:
        now, after, before = self._saved(self._tensors()), dict[str, float](), dict[str, float]()
        for batch in batches:
            inputs: dict[int, Tensor] = {}

            def kept(index: int, wanted: Tensor, given: Tensor) -> Tensor:
                inputs[index] = boundary(index, wanted, given)  # noqa: B023 - called within the pass
                return inputs[index]  # noqa: B023

            for name, error in self._blocks.errors(batch, kept).items():
                after[name] = after.get(name, 0.0) + float(error) / len(batches)
            self._load(self._start)
            for name, error in self._blocks.errors(batch, lambda index, *_: inputs[index]).items():  # noqa: B023
                before[name] = before.get(name, 0.0) + float(error) / len(batches)
            self._load(now)
        return after, before

    def _tensors(self) -> Saved:
        found = {f"weight {name}": weight.layer.weight for name, weight in self._weights.items()}
        found |= {f"bias {name}": bias for name, bias in self._biases.items()}
        return found | {
            f"range {name}": quantizer.amax
            for name, quantizer in activation_quantizers(self._module)
            if quantizer.amax is not None
        }

    @staticmethod
    def _saved(tensors: Mapping[str, Tensor]) -> Saved:
        return {name: value.detach().clone() for name, value in tensors.items()}

    def _load(self, saved: Mapping[str, Tensor]) -> None:
        tensors = self._tensors()
        for name, value in saved.items():
            tensors[name].copy_(value)

    def _owner(self, name: str) -> set[str]:
        """Return the blocks that a learned tensor belongs to."""
        kind, _, owner = name.partition(" ")
        return self._blocks.users().get(owner, set()) if kind == "range" else {block_of(owner)}

    @torch.no_grad()
    def _rounded(self) -> Saved:
        return {
            name: torch.div(weight.layer._weight_quantizer(weight.layer.weight), weight.scale).nan_to_num_().round_()
            for name, weight in self._weights.items()
        }

    def moves(self) -> tuple[dict[str, float], dict[str, int]]:
        """Return by layer the share of integers that changed, and by how many steps one changed at most."""
        steps = {name: (now - self._integers[name]).abs() for name, now in self._rounded().items()}
        return {name: float((by > 0).float().mean()) for name, by in steps.items()}, {
            name: int(by.max()) for name, by in steps.items()
        }
