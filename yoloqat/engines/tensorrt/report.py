"""What is said of a build."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from yoloqat.engines.tensorrt.build import TensorRTBuild


def engine_results(build: TensorRTBuild) -> dict[str, Any]:
    """Return the result keys of a build: those of every engine, and TensorRT's own."""
    precision = build.layers.precision
    return {
        "layers": [
            {"name": layer.name, "type": layer.type, "precision": layer.precision, "macs": layer.macs}
            for layer in precision.layers
        ],
        "int8_convolutions": len(precision.int8_convolutions),
        "quantized_convolutions": len(precision.quantized_convolutions),
        "convolutions": len(precision.convolutions),
        "int8_mac_share": precision.int8_mac_share,
        "int8_mac_share_all": precision.int8_mac_share_all,
        "reformats": list(build.layers.reformats),
        "tensorrt": build.version,
        "trtexec": build.trtexec,
        "profile": asdict(build.profile),
        "from_timing_cache": build.from_timing_cache,
        "warnings": list(build.warnings),
    }
