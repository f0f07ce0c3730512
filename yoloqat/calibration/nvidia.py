"""Calibration by the modules of NVIDIA's own ``pytorch-quantization``, where that is installed."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from yoloqat.compat import is_installed
from yoloqat.config import MethodSpec
from yoloqat.config.method import PER_LAYER
from yoloqat.config.sizes import ImageSize
from yoloqat.datasets import ImageRecord, plan_batches, read_batches
from yoloqat.detectors import Detector
from yoloqat.errors import CalibrationError, ConfigError, DependencyError
from yoloqat.predictor import Predictor
from yoloqat.progress import Progress, silent
from yoloqat.quant import TensorQuantizer, activation_quantizers, quantization_disabled, quantized_layers

BACKENDS = ("yoloqat", "pytorch-quantization")
_MODULE = "pytorch_quantization"


def nvidia_package() -> ModuleType:
    """Return NVIDIA's package.

    Raises:
        DependencyError: It is not installed; yoloqat's own namespace of that name does not count.
    """
    if is_installed() or importlib.util.find_spec(_MODULE) is None:
        raise DependencyError(
            f"package '{_MODULE}' is not installed",
            expected="NVIDIA's pytorch-quantization 2.1 or 2.2",
            hint="build it from the TensorRT repository (tools/pytorch-quantization), or leave `backend` out",
        )
    for name in ("nn", "calib", "tensor_quant"):
        importlib.import_module(f"{_MODULE}.{name}")
    return importlib.import_module(_MODULE)


def package_version(package: ModuleType) -> str:
    """Return the version of NVIDIA's package, as it states it itself or as it was installed."""
    stated = getattr(package, "__version__", None)
    if stated is not None:
        return str(stated)
    try:
        return importlib.metadata.version("pytorch-quantization")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def check_backend(detector: Detector, method: MethodSpec) -> None:
    """Check that NVIDIA's package can calibrate as asked.

    Raises:
        ConfigError: The method or the scheme is one that it does not have.
    """
    if method.kind == PER_LAYER:
        raise ConfigError(
            f"calibration method is {str(method)!r} with backend pytorch-quantization",
            expected="max, entropy, mse or a percentile",
            hint="choose one of them, or leave `backend` out",
        )
    for name, quantizer in activation_quantizers(detector.module):
        if not quantizer.scheme.symmetric:
            raise ConfigError(
                f"scheme of '{name}' is affine with backend pytorch-quantization",
                expected="a symmetric scheme: the package knows no zero-point",
                hint="take symmetric activations, or leave `backend` out",
            )


def calibrate_with(
    package: ModuleType,
    detector: Detector,
    predictor: Predictor,
    records: Sequence[ImageRecord],
    method: MethodSpec,
    *,
    imgsz: ImageSize,
    batch: int,
    progress: Progress = silent,
) -> None:
    """Set every range by the package's own quantizers.

    Beside every quantizer of activations one of the package's watches the same tensors of the float model: with its max
    calibrator for ``max``, else with its histogram calibrator. Weights are calibrated by its max calibrator, per channel.

    Args:
        package: NVIDIA's package, or another with its interface.
        detector: A quantized detector; its ranges are set.
        predictor: Runs that detector.
        records: The calibration images.
        method: One of NVIDIA's.
        imgsz: Side of the square letterbox in pixels, or (height, width) of another.
        batch: Images per forward.
        progress: Called after every batch.

    Raises:
        ConfigError: The method or the scheme is one that the package does not have.
        CalibrationError: A quantizer was not reached.
        DataError: An image does not decode.
    """
    check_backend(detector, method)
    kind = "max" if method.kind == "max" else "histogram"
    watchers = {
        name: _nvidia_quantizer(package, quantizer, kind).to(next(detector.module.parameters()).device)
        for name, quantizer in activation_quantizers(detector.module)
    }
    quantizers = dict(activation_quantizers(detector.module))
    with quantization_disabled(detector.module), ExitStack() as hooks:
        for name, quantizer in quantizers.items():
            hooks.callback(quantizer.register_forward_pre_hook(_watch(watchers[name])).remove)
        done = 0
        for batch_ in read_batches(
            plan_batches(records, imgsz, batch, stride=detector.info.stride, channels=detector.info.channels)
        ):
            predictor(batch_.images)
            done += len(batch_.records)
            progress("collect statistics", done, len(records))
    for done, (name, watcher) in enumerate(watchers.items(), start=1):
        quantizers[name].amax = _amax(watcher, method, name)
        progress(f"amax by {method}", done, len(watchers))
    for name, layer in quantized_layers(detector.module):
        watcher = _nvidia_quantizer(package, layer._weight_quantizer, "max")
        watcher(layer.weight.detach())
        layer._weight_quantizer.amax = _amax(watcher, MethodSpec("max"), f"{name}._weight_quantizer")


def _nvidia_quantizer(package: ModuleType, quantizer: TensorQuantizer, kind: str) -> Any:
    scheme = quantizer.scheme
    described = package.tensor_quant.QuantDescriptor(
        num_bits=scheme.bits,
        axis=None if scheme.axis is None else (scheme.axis,),
        unsigned=scheme.unsigned,
        narrow_range=scheme.narrow_range,
        calib_method=kind,
    )
    return package.nn.TensorQuantizer(described, if_quant=False, if_calib=True)


def _watch(watcher: Any) -> Any:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        watcher(inputs[0])

    return hook


def _amax(watcher: Any, method: MethodSpec, name: str) -> Tensor:
    collected = watcher._calibrator
    if method.kind == "max" and hasattr(collected, "_calib_amax"):
        found = collected.compute_amax()
    else:
        # the percentile must go by keyword, and only where the method takes one
        found = collected.compute_amax(method.kind, **({"percentile": method.percentile} if method.params else {}))
    if found is None:
        raise CalibrationError(
            f"quantizer '{name}' was not reached by the calibration images",
            expected="every quantizer reached",
            hint=f"leave its layer float with `ignore={name.rpartition('.')[0]}`",
        )
    return torch.as_tensor(found).detach().float().cpu()
