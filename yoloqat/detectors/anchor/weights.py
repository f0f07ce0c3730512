"""Strides and anchors (in pixels) that a checkpoint's head records beside its convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from yoloqat.detectors.anchor.official import Node
from yoloqat.detectors.inert import Held
from yoloqat.errors import ModelError


def _values(value: Any) -> list[float]:
    tensor = value.tensor if isinstance(value, Held) else value
    return [float(number) for number in torch.as_tensor(tensor).reshape(-1)]


def anchor_sizes(head: Node, strides: Sequence[float], *, anchors: int) -> torch.Tensor:
    """Return the widths and heights of a checkpoint's anchors, (levels, anchors, 2) in pixels, float32.

    The sizes that its own code multiplies by are taken: `anchor_grid`, which older code keeps in pixels, else `anchors`,
    which are in cells.

    Args:
        head: The head as recorded.
        strides: Pixels per cell of each level, as its description gives them.
        anchors: Number of anchors per level.

    Raises:
        ModelError: Its anchors or strides are not those of the description.
    """
    shape = (len(strides), anchors, 2)
    try:
        recorded = _values(head.attributes["stride"])
        grid, cells = head.tensors.get("anchor_grid"), head.tensors["anchors"]
        sizes = (
            cells.float().reshape(shape) * torch.tensor(strides).reshape(-1, 1, 1)
            if grid is None
            else grid.float().reshape(shape)
        )
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ModelError(
            f"the anchors of the {head.kind} head cannot be read ({error!r})",
            expected=f"{shape[0]} levels of {shape[1]} anchors, and their strides",
            hint="pass the checkpoint as it was trained",
        ) from error
    if recorded != [float(stride) for stride in strides]:
        raise ModelError(
            f"the strides of the {head.kind} head are {recorded}",
            expected=f"{[float(stride) for stride in strides]}, as its description gives them",
            hint="pass the checkpoint as it was trained",
        )
    return sizes.clone()
