"""The same model in FP16 and with implicit INT8, to hold a prediction against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from yoloqat.linting.fusion.model import FLOAT, HALF
from yoloqat.linting.fusion.net import Net, Op, Read
from yoloqat.onnx_graph.operators import QUANTIZE

_ANY = b"implicit"


def _half_kinds(net: Net) -> Mapping[str, str]:
    behind = {output for op in net.ops if op.tail for output in op.outputs}
    return {
        name: HALF if kind == FLOAT and name not in behind and name not in net.inputs else kind
        for name, kind in net.kinds.items()
    }


def _without_quantizers(net: Net) -> Net:
    """Return the graph with everything in FP16 but the images and the decoding; a requantizing Q becomes nothing."""
    renamed: dict[str, str] = {}
    ops: list[Op] = []
    for op in net.ops:
        reads = tuple(Read(renamed.get(read.tensor, read.tensor), None) for read in op.reads)
        if op.type == QUANTIZE:
            renamed[op.outputs[0]] = reads[0].tensor
        else:
            ops.append(replace(op, reads=reads, quantized=False))
    outputs = frozenset(renamed.get(name, name) for name in net.outputs)
    return replace(net, ops=tuple(ops), kinds=_half_kinds(net), outputs=outputs)


def in_half(net: Net) -> Net:
    """Return the model in FP16: images and the decoding of boxes stay FP32."""
    return _without_quantizers(net)


def in_implicit_int8(net: Net) -> Net:
    """Return what implicit quantization reaches at best: every convolution in INT8, every tensor between them in integers.

    TensorRT up to 10 is free to take FP16 for any layer, and does where that is faster; 11 has no implicit quantization.
    """
    plain = _without_quantizers(net)
    ops = []
    for op in plain.ops:
        integers = not op.tail and not op.product and (op.layer or op.type in ("Add", "AveragePool"))
        reads = tuple(Read(read.tensor, _ANY) for read in op.reads) if integers else op.reads
        ops.append(replace(op, reads=reads, quantized=integers and op.layer))
    return replace(plain, ops=tuple(ops))
