"""Node-by-node parity: each piece of the ONNX graph between two quantizers, fed torch's own tensors, against torch's codes.

End to end, one flipped rounding cascades and hides everything behind it. Cut at its quantizers, each piece of the graph gets
exactly what torch gave the same piece, and must return the same codes to within one step.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from yoloqat.datasets import Batch
from yoloqat.detectors import Detector
from yoloqat.engines.ort import session_options
from yoloqat.errors import ExportError
from yoloqat.export import Cut, cut_at_quantizers
from yoloqat.quant import TensorQuantizer, quantized_layers


@dataclass
class NodeParity:
    """How the codes of one quantized tensor agree, over all images.

    Attributes:
        layer: The layer that reads the tensor.
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
def _captured_inputs(detector: Detector) -> Iterator[dict[str, torch.Tensor]]:
    """Yield a dict that holds, after each forward, every quantized layer's float input."""
    seen: dict[str, torch.Tensor] = {}
    handles = []
    for name, layer in quantized_layers(detector.module):

        def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], name: str = name) -> None:
            del module
            seen[name] = inputs[0].detach().clone()

        handles.append(layer.register_forward_pre_hook(hook))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _torch_codes(quantizer: TensorQuantizer, x: torch.Tensor) -> NDArray[np.int64]:
    """Return the codes that torch's own fake quantization of ``x`` stands for."""
    grid = quantizer.grid()
    if grid is None:
        raise ExportError(
            f"quantizer '{quantizer.name}' has no amax", expected="a calibrated model", mend="calibrate it first"
        )
    step, zero_point = grid
    return (torch.round(quantizer(x) / step) + zero_point).cpu().numpy().astype(np.int64)


def node_parity(detector: Detector, onnx_path: Path, batches: Sequence[Batch], *, threads: int) -> list[NodeParity]:
    """Compare the codes of every quantized tensor between torch and ONNX Runtime.

    Each piece of the graph gets what torch's layers got: quantizers the fake-quantized values, all others the float ones.

    Args:
        detector: The calibrated detector that was exported.
        onnx_path: What it was exported to.
        batches: Real images, of the file's batch size and image size.
        threads: Threads of ONNX Runtime.

    Returns:
        One entry per quantized tensor of the file.

    Raises:
        ExportError: A quantizer of the file belongs to no quantized layer of the detector.
    """
    model, cuts = cut_at_quantizers(onnx.load(onnx_path))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(threads=threads), providers=["CPUExecutionProvider"]
    )
    layers = dict(quantized_layers(detector.module))
    for cut in cuts:
        if not any(name in layers for name in cut.layers):
            raise ExportError(
                f"quantizer '{cut.quantizer}' feeds {', '.join(cut.layers) or 'nothing'}",
                expected="a quantized layer of the detector",
                mend="compare the file with the checkpoint it was exported from",
            )
    readers = [_reader(cut, layers) for cut in cuts]
    found = [NodeParity(name) for name in readers]
    with torch.inference_mode(), _captured_inputs(detector) as seen:
        device = next(detector.module.parameters()).device
        for batch in batches:
            detector.module(torch.from_numpy(batch.images).to(device, memory_format=torch.channels_last))
            feeds = {}
            for cut, name in zip(cuts, readers, strict=True):
                feeds[cut.feed] = _array(layers[name]._input_quantizer(seen[name]))
                if cut.raw is not None:
                    feeds[cut.raw] = _array(seen[name])
            outputs = session.run([cut.codes for cut in cuts], feeds)
            for entry, name, codes in zip(found, readers, outputs, strict=True):
                steps = np.abs(codes.astype(np.int64) - _torch_codes(layers[name]._input_quantizer, seen[name]))
                entry.elements += steps.size
                entry.different += int((steps > 0).sum())
                entry.max_steps = max(entry.max_steps, int(steps.max()))
    return found


def _array(x: torch.Tensor) -> NDArray[np.float32]:
    return x.cpu().contiguous().numpy()


def _reader(cut: Cut, layers: Container[str]) -> str:
    return next(name for name in cut.layers if name in layers)
