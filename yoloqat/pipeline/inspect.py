"""What a model is made of, what of it would be quantized, and why the rest stays float."""

from __future__ import annotations

from typing import Any

import torch

from yoloqat.config import QuantConfig
from yoloqat.config.sizes import ImageSize, json_size, sides
from yoloqat.detectors import Detector
from yoloqat.quant import quantizers
from yoloqat.quant.graph import trace
from yoloqat.quant.graph.cost import LayerCost, layer_costs

BY_OPTION = "quantized only by option"


def inspect_detector(detector: Detector, config: QuantConfig, *, imgsz: ImageSize) -> dict[str, Any]:
    """Describe a detector layer by layer.

    A float detector is quantized, as ``config`` says, to see what would be; its ranges stay empty. A calibrated one is
    described as it is.

    Args:
        detector: The detector; a float one is quantized in place.
        config: What is quantized, of a float detector.
        imgsz: Side of the square image, or (height, width), in pixels that shapes and multiply-adds are for.

    Returns:
        JSON-able: ``family``, ``task``, ``names``, ``stride``, ``imgsz``, ``parameters``, ``macs``, ``quantized_macs``,
        ``layers`` in the order of execution (``name, type, input, output, parameters, macs, quantized, reason, quantizer``),
        ``scales``, ``unreached`` and ``calibrated``.

    Raises:
        PatternError: A pattern matches nothing.
        ModelError: The module cannot be traced.
    """
    calibrated = detector.quantization is not None
    if detector.quantization is None:
        detector.quantize(config)
    quantization = detector.quantization
    assert quantization is not None  # noqa: S101 - quantize sets it
    device = next(detector.module.parameters()).device
    example = torch.zeros(1, detector.info.channels, *sides(imgsz), device=device)
    costs = layer_costs(trace(detector.module, example))
    modules = dict(detector.module.named_modules(remove_duplicate=False))
    shared = quantization.placement.aliases
    chosen, locations = set(quantization.layers), set(dict(quantizers(detector.module)))

    def row(cost: LayerCost) -> dict[str, Any]:
        location = f"{cost.name}._input_quantizer"
        quantized = cost.name in chosen
        reason = None if quantized else quantization.placement.floats.get(cost.name, BY_OPTION)
        owner = shared.get(location, location if location in locations else None)
        return {
            "name": cost.name,
            "type": type(modules[cost.name]).__name__.removeprefix("Quant"),
            "operator": cost.kind,
            "input": list(cost.input[1:]),
            "output": list(cost.output[1:]),
            "parameters": cost.parameters,
            "macs": cost.macs,
            "quantized": quantized,
            "reason": reason,
            "quantizer": owner if quantized else None,
        }

    layers = [row(cost) for cost in costs]
    groups = quantization.placement.groups
    return {
        "family": detector.family,
        "task": detector.info.task,
        "names": {str(index): name for index, name in detector.info.names.items()},
        "stride": detector.info.stride,
        "end2end": detector.info.end2end,
        "trained_imgsz": json_size(detector.imgsz),
        "imgsz": json_size(imgsz),
        "parameters": sum(parameter.numel() for parameter in detector.module.parameters()),
        "macs": sum(layer["macs"] for layer in layers),
        "quantized_macs": sum(layer["macs"] for layer in layers if layer["quantized"]),
        "convolutions": sum("conv" in layer["operator"] for layer in layers),
        "quantized_layers": sum(layer["quantized"] for layer in layers),
        "layers": layers,
        "scales": [
            {"quantizer": group.owner, "tensors": [tensor.name for tensor in group.tensors]} for group in groups
        ],
        "unreached": list(quantization.placement.unreached),
        "calibrated": calibrated,
    }
