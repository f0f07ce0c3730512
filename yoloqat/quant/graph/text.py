"""A placement plan as text: one line per tensor, for people and for comparisons."""

from __future__ import annotations

from yoloqat.quant.graph.plan import PlacementPlan

_INPUT = "_input_quantizer"


def reader_name(location: str) -> str:
    """Return the name of the reader at a location: ``model.2.cv1.conv``, or ``model.2.m.0 (residual)`` of a block."""
    path, _, attribute = location.rpartition(".")
    if attribute == _INPUT:
        return path
    return f"{path} ({attribute.removeprefix('_').removesuffix('_quantizer')})"


def plan_text(plan: PlacementPlan) -> str:
    """Return the plan as lines.

    A line ``scale 3: 2 tensors, 3 readers`` opens each scale; under it stand its tensors, what makes each on the left of the
    arrow and who reads it quantized on the right. Then comes what stays float, and what no quantizer reaches.
    """
    lines = []
    for number, group in enumerate(plan.groups):
        readers = sum(len(tensor.locations) for tensor in group.tensors)
        lines.append(f"scale {number}: {_count(len(group.tensors), 'tensor')}, {_count(readers, 'reader')}")
        for tensor in group.tensors:
            lines.append(f"  {tensor.name} -> {', '.join(reader_name(location) for location in tensor.locations)}")
    lines += [f"float {name}: {reason}" for name, reason in plan.floats.items()]
    lines += [f"unreached {line}" for line in plan.unreached]
    return "\n".join(lines) + "\n"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
