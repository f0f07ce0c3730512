"""The largest absolute value; here, as in NVIDIA's package, the axes named are those that vanish."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from yoloqat.compat.errors import ArgumentIndexError, ArgumentValueError, as_runtime_errors
from yoloqat.quant.functional import reduce_amax as core_reduce_amax

__all__ = ["reduce_amax"]


def reduce_amax(input: Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = True) -> Tensor:  # noqa: A002
    """Return the largest absolute value of ``input`` over ``axis``, without gradient.

    Args:
        input: Tensor of any float dtype.
        axis: The axis or axes to reduce; None for all.
        keepdims: Keep reduced axes with size 1; a single value has shape () all the same.

    Raises:
        ArgumentValueError: There are more axes than the tensor has.
        ArgumentIndexError: The tensor has no such axis.
        StateError: ``input`` has no elements.
    """
    if axis is None or input.numel() == 0:
        with as_runtime_errors():
            return core_reduce_amax(input)
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    if len(axes) > input.dim():
        raise ArgumentValueError(
            f"axis is {axis!r} for a tensor of shape {tuple(input.shape)}",
            expected=f"at most {input.dim()} axes",
            hint="name each axis once",
        )
    if not all(-input.dim() <= one < input.dim() for one in axes):
        raise ArgumentIndexError(
            f"axis is {axis!r} for a tensor of shape {tuple(input.shape)}",
            expected=f"from {-input.dim()} to {input.dim() - 1}",
            hint="name an axis of that tensor",
        )
    values = input.detach().abs()
    amax = values.amax(dim=axes, keepdim=keepdims) if axes else values  # amax over no axes would reduce all of them
    return amax.reshape(()) if amax.numel() == 1 and not isinstance(axis, int) else amax
