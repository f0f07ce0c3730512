"""Cheap estimates of sensitivity from one batch of images, without a label and without an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloqat.quant.graph import Executor
from yoloqat.quant.graph.trace import PLACEHOLDER
from yoloqat.sensitivity.edges import Edge, Switch, placeholders, switched_quantizer

PSEUDO_LABEL = 0.25
"""Class scores of the float model above this count as its own labels for the gradient."""

_LEAST = 1e-30


@dataclass(frozen=True)
class Noise:
    """The quantization noise of the tensors of an edge or of an item.

    Attributes:
        nmse: Normalised squared error, the sum over x of (q(x) - x)^2 divided by that of x^2, of the float model's tensor x
            and the quantizer q; of an item the sum over its edges.
        fisher: The sum over elements of (g (q(x) - x))^2 per image, with g the gradient at x of the cross-entropy between the
            float model's class scores and these scores cut at :data:`PSEUDO_LABEL`: the diagonal empirical Fisher
            information times the squared error, which estimates the rise of the loss (as the traces of Zandonati et al., FIT,
            arXiv:2210.08502, do).
    """

    nmse: float
    fisher: float

    @property
    def sqnr_db(self) -> float | None:
        """Signal to quantization noise ratio in decibels, -10 log10(nmse); None where there is no error at all."""
        return -10.0 * math.log10(self.nmse) if self.nmse > 0 else None


def edge_noise(
    executor: Executor, edges: Sequence[Edge], images: Tensor, *, classes: int, bits: int | None = None
) -> dict[str, Noise]:
    """Return the noise of every edge in the float model, from one forward and one backward.

    Args:
        executor: Of the module that holds the edges, traced at the shape of ``images``.
        edges: The edges.
        images: Shape (batch, 3, height, width), float32 in [0, 1].
        classes: Number of classes.
        bits: Bit width; None leaves each its own.
    """
    traced = executor.traced
    of_node = {index: name for name, nodes in placeholders(list(edges), traced, executor).items() for index in nodes}
    by_name = {edge.name: edge for edge in edges}
    seen: list[tuple[str, Tensor, Tensor]] = []
    sums: dict[str, list[float]] = {edge.name: [0.0, 0.0, 0.0] for edge in edges}  # error, signal, fisher
    output = traced.outputs[0]
    with torch.inference_mode(False), torch.enable_grad():
        values: dict[int, Any] = {}
        leaf = images.clone(memory_format=torch.preserve_format).requires_grad_(True)
        last = {read: node.index for node in traced.nodes for read in node.reads()}
        for node in traced.nodes:
            if node.op == PLACEHOLDER:
                edge = by_name[of_node[node.index]]
                passed, error = _passed(edge, values[node.reads()[0]], bits)
                values[node.index] = passed
                seen.append((edge.name, passed, error))
                sums[edge.name][0] += float(error.square().sum(dtype=torch.float64))
                sums[edge.name][1] += float(passed.detach().square().sum(dtype=torch.float64))
            else:
                values[node.index] = executor.run_node(node, values, leaf)
            for read in node.reads():
                if last[read] == node.index and read != output:
                    del values[read]
        loss = _loss(values[output], classes)
        gradients = torch.autograd.grad(loss, [passed for _, passed, _ in seen], allow_unused=True)
    for (name, _, error), gradient in zip(seen, gradients, strict=True):
        if gradient is not None:
            sums[name][2] += float((gradient * error).square().sum(dtype=torch.float64)) / len(images)
    return {name: Noise(error / max(signal, _LEAST), fisher) for name, (error, signal, fisher) in sums.items()}


def _passed(edge: Edge, tensor: Tensor, bits: int | None) -> tuple[Tensor, Tensor]:
    """Return the float tensor as one that a gradient can be taken at, and its quantization error."""
    with torch.no_grad():
        quantizer = edge.quantizer if bits is None else switched_quantizer(edge.quantizer, Switch(bits))
        plain = tensor.detach().clone() if edge.is_weight else tensor.detach()
        error = quantizer.forward(plain) - plain
    if edge.is_weight:
        return plain.requires_grad_(True), error
    return tensor.view_as(tensor), error  # of its own, so that readers of one tensor have gradients of their own


def _loss(raw: Tensor, classes: int) -> Tensor:
    scores = raw[:, 4 : 4 + classes] if raw.shape[1] >= 4 + classes else raw[..., 4]
    scores = scores.clamp(1e-6, 1 - 1e-6)
    labels = (scores.detach() > PSEUDO_LABEL).to(scores.dtype)
    return torch.nn.functional.binary_cross_entropy(scores, labels, reduction="sum")


def joined(noises: Mapping[str, Noise], edges: Sequence[str]) -> Noise:
    """Return the noise of several edges together, as if their errors were independent."""
    return Noise(sum(noises[edge].nmse for edge in edges), sum(noises[edge].fisher for edge in edges))


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation of two lists, equal values with their mean rank; None where one is constant.

    Args:
        a: Numbers.
        b: As many numbers.
    """
    if not len(a):
        return None
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (a, b)]
    centred = [values - values.mean() for values in ranks]
    scale = math.sqrt(float((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum() / scale) if scale > 0 else None


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    mean: NDArray[np.float64] = (ends - (counts - 1) / 2)[inverse]
    return mean
