"""Fold away the parts that inference does not need: batch-norms, RepConv's branches, implicit vectors, training heads.

Quantization acts on what is left, as it is what engines run.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval, fuse_conv_bn_weights

from yoloqat.detectors.anchor.blocks import RepConv
from yoloqat.detectors.anchor.head import Detect, IAuxDetect, IDetect
from yoloqat.detectors.anchor.layers import Conv, ImplicitA, ImplicitM
from yoloqat.detectors.anchor.model import AnchorModel


def _folded(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a bias-free convolution folded with the batch-norm behind it."""
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    result: tuple[Tensor, Tensor] = fuse_conv_bn_weights(weight, None, mean, variance, norm.eps, norm.weight, norm.bias)
    return result


def _layers(branch: Any) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Return the convolution and the batch-norm of a RepConv's branch."""
    layer, norm = branch
    return layer, norm


def _identity_kernel(like: Tensor) -> Tensor:
    """Return the kernel of an identity convolution, shaped like a given kernel."""
    kernel = torch.zeros_like(like)
    outputs, inputs, height, width = like.shape
    channels = torch.arange(outputs)
    kernel[channels, channels % inputs, height // 2, width // 2] = 1
    return kernel


def reparametrized(block: RepConv) -> nn.Conv2d:
    """Return one convolution equal to all branches of a RepConv (arXiv:2101.03697, section 3.3).

    Args:
        block: In evaluation mode, not folded yet.
    """
    dense, dense_norm = _layers(block.rbr_dense)
    small, small_norm = _layers(block.rbr_1x1)
    border = dense.kernel_size[0] // 2
    branches = [
        _folded(dense.weight, dense_norm),
        _folded(nn.functional.pad(small.weight, [border] * 4), small_norm),
    ]
    if block.rbr_identity is not None:
        branches.append(_folded(_identity_kernel(dense.weight), block.rbr_identity))
    weights, biases = zip(*branches, strict=True)
    result = nn.Conv2d(
        dense.in_channels,
        dense.out_channels,
        dense.kernel_size,  # type: ignore[arg-type]
        dense.stride,  # type: ignore[arg-type]
        dense.padding,  # type: ignore[arg-type]
        groups=dense.groups,
    )
    result.weight = nn.Parameter(torch.stack(weights).sum(0))
    result.bias = nn.Parameter(torch.stack(biases).sum(0))
    return result


def _fold_implicit(head: IDetect) -> None:
    """Fold im * (W (x + ia) + b) into (im W) x + im (b + W ia), level by level."""
    for level, layer in enumerate(cast(list[nn.Conv2d], head.m)):
        added = cast(ImplicitA, head.ia[level]).implicit.reshape(-1)
        factor = cast(ImplicitM, head.im[level]).implicit.reshape(-1)
        bias = cast(Tensor, layer.bias)
        layer.bias = nn.Parameter(factor * (bias + layer.weight.flatten(1) @ added))
        layer.weight = nn.Parameter(layer.weight * factor.reshape(-1, 1, 1, 1))
    head.ia = nn.ModuleList(nn.Identity() for _ in head.ia)
    head.im = nn.ModuleList(nn.Identity() for _ in head.im)


def _fold_head(head: Detect) -> None:
    if isinstance(head, IDetect):
        _fold_implicit(head)
    if isinstance(head, IAuxDetect):
        head.m2 = nn.ModuleList()


def fold(model: AnchorModel) -> AnchorModel:
    """Fold a model in place and drop the layers that its head does not depend on.

    Args:
        model: As its checkpoint has it.

    Returns:
        The same model in evaluation mode, without gradients, with plain convolutions and activations alone.
    """
    model.eval()
    with torch.no_grad():
        for index in set(range(len(model.model))) - set(model.live):
            model.model[index] = nn.Identity()
        for block in model.modules():
            if isinstance(block, Conv) and isinstance(block.bn, nn.BatchNorm2d):
                block.conv = fuse_conv_bn_eval(block.conv, block.bn)
                block.bn = nn.Identity()
            elif isinstance(block, RepConv) and block.rbr_reparam is None:
                block.rbr_reparam = reparametrized(block)
                block.rbr_dense = block.rbr_1x1 = block.rbr_identity = None
        _fold_head(model.head)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model
