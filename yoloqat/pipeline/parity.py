"""Node-by-node parity: each piece of the ONNX graph between two quantizers, fed torch's own tensors, against torch's codes.

End to end, one flipped rounding cascades and hides everything behind it. Cut at its quantizers, each piece of the graph gets
exactly what torch gave the same piece, and must return the same codes to within one step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from yoloqat.datasets import Batch
from yoloqat.detectors import Detector
from yoloqat.engines.ort import session_options
from yoloqat.engines.ort_import import import_onnxruntime
from yoloqat.errors import ExportError
from yoloqat.export import Cut, cut_at_quantizers, named_quantizers
from yoloqat.export.trace import INPUT
from yoloqat.onnx_graph.file import read_onnx
from yoloqat.quant import TensorQuantizer, activation_quantizers, unshared
from yoloqat.quant.graph import reader_name

onnxruntime = import_onnxruntime()


@dataclass
class NodeParity:
    """How the codes of one quantized tensor agree, over all images.

    Attributes:
        layer: Who reads the tensor first: a layer, or a block with the role of the tensor, ``model.2.m.0 (residual)``.
        elements: Codes compared.
        different: Codes that differ.
        max_steps: Largest difference in steps.
    """

    layer: str
    elements: int = 0
    different: int = 0
    max_steps: int = 0

    @property
    def share(self) -> float:
        """Share of codes that differ."""
        return self.different / self.elements if self.elements else 0.0


@contextmanager
def _captured_inputs(quantizers: Mapping[str, TensorQuantizer]) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Yield a dict that holds, after each forward, the float tensors that each location read, in their order."""
    seen: dict[str, list[torch.Tensor]] = {}
    handles = []
    for name, quantizer in quantizers.items():

        def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], name: str = name) -> None:
            del module
            seen.setdefault(name, []).append(inputs[0].detach().clone())

        handles.append(quantizer.register_forward_pre_hook(hook))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _torch_codes(quantizer: TensorQuantizer, x: torch.Tensor) -> NDArray[np.int64]:
    """Return the codes that torch's own fake quantization of ``x`` stands for."""
    grid = quantizer.qparams()
    if grid is None:
        raise ExportError(
            f"quantizer '{quantizer.name}' has no amax", expected="a calibrated model", hint="calibrate it first"
        )
    step, zero_point = grid
    return (torch.round(quantizer.forward(x) / step) + zero_point).cpu().numpy().astype(np.int64)


@dataclass(frozen=True)
class _Place:
    """A cut and whose tensor it is: the location, and the how manieth of the tensors that the location reads in a forward."""

    cut: Cut
    location: str
    turn: int


def _places(cuts: Sequence[Cut], named: Mapping[str, str], quantizers: Container[str]) -> list[_Place]:
    turns: Counter[str] = Counter()
    places = []
    for cut in cuts:
        location = named.get(cut.quantizer, "")
        if location not in quantizers:
            raise ExportError(
                f"quantizer '{cut.quantizer}' feeds {', '.join(cut.layers) or 'nothing'}",
                expected="a quantizer of the detector",
                hint="compare the file with the checkpoint it was exported from",
            )
        places.append(_Place(cut, location, turns[location]))
        turns[location] += 1
    return places


ROUNDING_OPTIMIZERS = ["WeightBiasQuantization"]
"""What ONNX Runtime changes in a file before it runs it: it rounds the bias of a layer whose output is quantized at once, as
that of a mask head's transposed convolution is, to codes that the file does not have."""


def node_parity(detector: Detector, onnx_path: Path, batches: Sequence[Batch], *, threads: int) -> list[NodeParity]:
    """Compare the codes of every quantized tensor between torch and ONNX Runtime.

    Each piece of the graph gets what torch's modules got: quantizers the fake-quantized values, all others the float ones.

    Args:
        detector: The calibrated detector that was exported.
        onnx_path: What it was exported to.
        batches: Real images, of the file's batch size and image size.
        threads: Threads of ONNX Runtime.

    Returns:
        One entry per quantized tensor of the file.

    Raises:
        ExportError: A quantizer of the file belongs to no quantizer of the detector.
    """
    source = read_onnx(onnx_path)
    model, cuts = cut_at_quantizers(source)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(),
        session_options(threads=threads),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=ROUNDING_OPTIMIZERS,
    )
    with torch.inference_mode(), unshared(detector.module):
        quantizers = dict(activation_quantizers(detector.module))
        places = _places(cuts, named_quantizers(source), quantizers)
        found = [NodeParity(reader_name(place.location)) for place in places]
        with _captured_inputs(quantizers) as seen:
            device = next(detector.module.parameters()).device
            for batch in batches:
                seen.clear()
                detector.module(torch.from_numpy(batch.images).to(device, memory_format=torch.channels_last))
                _compare(session, places, found, quantizers=quantizers, seen=seen, images=batch.images)
    return found


def _compare(
    session: Any,
    places: Sequence[_Place],
    found: Sequence[NodeParity],
    *,
    quantizers: Mapping[str, TensorQuantizer],
    seen: Mapping[str, Sequence[torch.Tensor]],
    images: NDArray[np.float32],
) -> None:
    """Feed the pieces with what torch's quantizers read in one forward, and count the codes that differ."""
    # the image itself is fed where the graph reads it unquantized, as a stem that only moves pixels does
    feeds = {value.name: images for value in session.get_inputs() if value.name == INPUT}
    tensors = [seen[place.location][place.turn] for place in places]
    for place, tensor in zip(places, tensors, strict=True):
        feeds[place.cut.feed] = _array(quantizers[place.location].forward(tensor))  # past the hooks that capture
        if place.cut.raw is not None:
            feeds[place.cut.raw] = _array(tensor)
    half = {value.name for value in session.get_inputs() if value.type == "tensor(float16)"}
    feeds = {name: value.astype(np.float16) if name in half else value for name, value in feeds.items()}
    outputs = session.run([place.cut.integers for place in places], feeds)
    for entry, place, tensor, codes in zip(found, places, tensors, outputs, strict=True):
        steps = np.abs(codes.astype(np.int64) - _torch_codes(quantizers[place.location], tensor))
        entry.elements += steps.size
        entry.different += int((steps > 0).sum())
        entry.max_steps = max(entry.max_steps, int(steps.max()))


def _array(x: torch.Tensor) -> NDArray[np.float32]:
    return x.cpu().contiguous().numpy()
