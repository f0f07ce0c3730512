"""Which parts of concats, and which slices, are copied instead of being written or read in place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yoloqat.linting.fusion.flow import Flow
from yoloqat.linting.fusion.model import FLOAT, HALF, INT8
from yoloqat.linting.fusion.net import SLICES, Net, Op

BLOCK = {INT8: 32, HALF: 8, FLOAT: 1}
"""Channels that lie beside each other in the layout that the kernels of a precision want."""


@dataclass(frozen=True)
class Copy:
    """A tensor that is copied.

    Attributes:
        tensor: The part, or the slice.
        cause: Why.
        rule: Id of the rule.
    """

    tensor: str
    cause: str
    rule: str


def _along_channels(net: Net, tensors: tuple[str, ...]) -> bool:
    """Return whether tensors are images of one size: what joins or splits them does so along the channels."""
    shapes = [net.shapes.get(tensor, ()) for tensor in tensors]
    return all(len(shape) == 4 and shape[2:] == shapes[0][2:] for shape in shapes)


def concat_copies(net: Net, flow: Flow, op: Op, precision: str) -> Iterator[Copy]:
    """Yield the parts of a concat that are copied."""
    parts = tuple(read.tensor for read in op.reads)
    if not _along_channels(net, (*parts, *op.outputs)):
        yield from (Copy(part, f"'{op.name}' does not join channels", "concat-in-place") for part in parts)
        return
    offset, block = 0, BLOCK.get(precision, 1)
    for part in parts:
        maker = flow.makers.get(part)
        others = [other for other in flow.readers.get(part, ()) if other is not op and not other.layer]
        if offset % block:
            cause = f"it starts at channel {offset}, no multiple of {block}"
            yield Copy(part, cause, "concat-channels")
        elif maker is not None and maker.type in SLICES:
            yield Copy(part, f"it is a part of '{maker.reads[0].tensor}'", "concat-in-place")
        elif maker is not None and maker.type in ("Resize", "Upsample"):
            yield Copy(part, f"'{maker.name}' does not write in place", "concat-in-place")
        elif others:
            yield Copy(part, f"'{others[0].name}' reads it too", "concat-in-place")
        offset += net.channels(part)


def slice_copies(net: Net, flow: Flow, op: Op, precision: str) -> Iterator[Copy]:
    """Yield the slices of one tensor that are copied for a reader that is no concat."""
    along, offset = _along_channels(net, (op.reads[0].tensor, *op.outputs)), 0
    block = BLOCK.get(precision, 1)
    for output in op.outputs:
        read = [other for other in flow.readers.get(output, ()) if other.type != "Concat"]
        if read and not along:
            yield Copy(output, f"'{op.name}' cuts more than channels", "alone")
        elif read and (offset % block or net.channels(output) % block):
            yield Copy(output, f"it starts at channel {offset} and has {net.channels(output)}", "concat-channels")
        offset += net.channels(output)
