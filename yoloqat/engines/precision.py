"""What a compiled OpenVINO model really runs in integers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from yoloqat.engines.rewrite.split import SUFFIX
from yoloqat.onnx_graph.macs import multiply_adds

INT8 = frozenset({"u8", "i8"})
_FLOATS = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64"}
_CONVOLUTIONS = frozenset({"Convolution", "Deconvolution"})


@dataclass(frozen=True)
class LayerPrecision:
    """One node of the runtime's own graph.

    Attributes:
        name: Name of the layer, as in the ONNX file.
        type: The runtime's name of the operation, e.g. ``"Convolution"``.
        precision: The precision it computes in, e.g. ``"u8"`` or ``"f32"``.
        primitive: The kernel that was chosen, e.g. ``"jit_avx2_I8"``.
        macs: Multiply-adds of one forward; 0 for what is no convolution.
    """

    name: str
    type: str
    precision: str
    primitive: str
    macs: int


@dataclass(frozen=True)
class PrecisionMap:
    """What a compiled model runs in which precision.

    Attributes:
        layers: The runtime's nodes in order of execution, constants left out.
        quantized: Names of the layers whose input and weight the file quantizes.
    """

    layers: tuple[LayerPrecision, ...]
    quantized: frozenset[str]

    @property
    def convolutions(self) -> tuple[LayerPrecision, ...]:
        """All convolutions; one that was split against overflow counts once."""
        return tuple(x for x in self.layers if x.type in _CONVOLUTIONS and not x.name.endswith(SUFFIX))

    @property
    def quantized_convolutions(self) -> tuple[LayerPrecision, ...]:
        """The convolutions that the file quantizes."""
        return tuple(layer for layer in self.convolutions if layer.name in self.quantized)

    @property
    def int8_convolutions(self) -> tuple[LayerPrecision, ...]:
        """The convolutions that run in integers."""
        return tuple(layer for layer in self.convolutions if layer.precision in INT8)

    @property
    def label(self) -> str:
        """What to call the model: ``"int8 57/64"``, else what its convolutions compute in, e.g. ``"float16"``."""
        if self.int8_convolutions:
            return f"int8 {len(self.int8_convolutions)}/{len(self.convolutions)}"
        kinds = {_FLOATS.get(layer.precision, layer.precision) for layer in self.convolutions}
        return " + ".join(sorted(kinds)) or "not told"

    @property
    def int8_mac_share(self) -> float | None:
        """Share of the quantized convolutions' multiply-adds that run in integers; None where nothing is quantized."""
        return _share(self.quantized_convolutions)

    @property
    def int8_mac_share_all(self) -> float | None:
        """Share of all convolutions' multiply-adds that run in integers; None where there is no convolution."""
        return _share(self.convolutions)

    def results(self) -> dict[str, Any]:
        """Return the result keys that ``build`` has for every engine, as a JSON-able dict."""
        return {
            "layers": [
                {"name": layer.name, "type": layer.type, "precision": layer.precision, "macs": layer.macs}
                for layer in self.layers
            ],
            "int8_convolutions": len(self.int8_convolutions),
            "quantized_convolutions": len(self.quantized_convolutions),
            "convolutions": len(self.convolutions),
            "int8_mac_share": self.int8_mac_share,
            "int8_mac_share_all": self.int8_mac_share_all,
        }


def _share(layers: Collection[LayerPrecision]) -> float | None:
    total = sum(layer.macs for layer in layers)
    return sum(layer.macs for layer in layers if layer.precision in INT8) / total if total else None


def _text(info: Any, key: str) -> str:
    value = info[key]
    return str(getattr(value, "value", value))


def _macs(node: Any, kind: str) -> int:
    if kind not in _CONVOLUTIONS:
        return 0
    return multiply_adds(_shape(node.output(0) if kind == "Convolution" else node.input(0)), _shape(node.input(1)))


def _shape(port: Any) -> tuple[int, ...]:
    """Return a port's shape, 0 for an open side."""
    return tuple(0 if side.is_dynamic else side.get_length() for side in port.get_partial_shape())


def _layer_name(friendly: str, originals: list[str], known: Collection[str]) -> str:
    plain = friendly.removesuffix("/WithoutBiases")
    if plain in known or plain.endswith(SUFFIX):
        return plain
    return next((name for name in originals if name in known), plain)


def precision_map(compiled: Any, *, quantized: Collection[str] = ()) -> PrecisionMap:
    """Read the runtime's own graph of a compiled model.

    Source: `CompiledModel.get_runtime_model()`, whose nodes carry ``layerType``, ``runtimePrecision``,
    ``primitiveType`` and ``originalLayersNames`` (one node may stand for several fused ones).

    Args:
        compiled: An `openvino.CompiledModel`; multiply-adds are known where all shapes but the batch are static.
        quantized: Names of the layers that the file quantizes.
    """
    layers = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind = _text(info, "layerType")
        if kind == "Const":
            continue
        name = _layer_name(node.get_friendly_name(), _text(info, "originalLayersNames").split(","), quantized)
        layers.append(
            LayerPrecision(name, kind, _text(info, "runtimePrecision"), _text(info, "primitiveType"), _macs(node, kind))
        )
    return PrecisionMap(tuple(layers), frozenset(quantized))
