"""Rules about the axis of scales."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import TensorProto

from yoloqat.linting.finding import Hit, gathered
from yoloqat.linting.graph import Graph
from yoloqat.linting.rules.numbers import OTHER_PRECISIONS
from yoloqat.linting.sites import Site

_FIRST_WITH_AXIS = 13


def activation_axis(graph: Graph) -> list[Hit]:
    """Find activations with more than one scale."""
    return gathered(
        "activations have a scale per channel",
        [
            (site.name, f"has {site.scale.size} scales")
            for site in graph.sites
            if site.scale is not None and site.per_axis and not site.weight
        ],
    )


def blocked(graph: Graph) -> list[Hit]:
    """Find 8-bit codes with a scale for each block of values."""
    return gathered(
        "8-bit codes have scales of more than one axis or a block size",
        [
            (site.name, f"has scales of shape {site.scale.shape if site.scale is not None else '?'}")
            for site in graph.sites
            if site.blocked and site.code not in OTHER_PRECISIONS
        ],
    )


def _axis(site: Site, rank: int) -> int:
    return site.axis + rank if site.axis < 0 else site.axis


def weight_axis(graph: Graph) -> Iterator[Hit]:
    """Find scales per channel that do not lie along the output channels of the weight."""
    index = graph.index
    if index.opset is not None and index.opset < _FIRST_WITH_AXIS:
        return
    wanted = {layer.weight_site.name: layer for layer in graph.layers if layer.weight_site is not None}
    unfit, wrong = [], []
    for site in graph.sites:
        shape = index.shape(site.data)
        if site.scale is None or not site.per_axis or not site.weight or site.blocked or shape is None:
            continue
        axis = _axis(site, len(shape))
        written = "" if site.axis_written else ", which the file leaves at its default"
        if not 0 <= axis < len(shape) or shape[axis] != site.scale.size:
            size = shape[axis] if 0 <= axis < len(shape) else "none"
            unfit.append((site.name, f"has {site.scale.size} scales along axis {site.axis} of size {size}{written}"))
            continue
        readers = [site, *graph.dequantizers(site)] if site.quantizes else [site]
        layers = [wanted[reader.name] for reader in readers if reader.name in wanted]
        expected = next((layer.weight_axis for layer in layers if layer.weight_axis is not None), None)
        if expected is not None and axis != expected and site.code != TensorProto.INT32:
            detail = (
                f"has its scales along axis {axis}{written}; output channels of '{layers[0].name}' are axis {expected}"
            )
            wrong.append((site.name, detail))
    yield from gathered("scales do not fit their axis", unfit)
    yield from gathered("scales lie along the wrong axis", wrong)
