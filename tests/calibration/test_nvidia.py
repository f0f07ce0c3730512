"""Calibration by another package of NVIDIA's interface; the namespace of compat has it and stands in here."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
from tiny_detector import IMGSZ

from yoloqat import compat
from yoloqat.calibration import apply_method, collect_statistics
from yoloqat.calibration.nvidia import calibrate_with, check_backend, nvidia_package, package_version
from yoloqat.config import MethodSpec, QuantConfig, QuantScheme
from yoloqat.datasets import ImageRecord
from yoloqat.detectors import Detector, TorchPredictor, load_detector
from yoloqat.errors import CalibrationError, ConfigError, DependencyError
from yoloqat.quant import activation_quantizers, quantized_layers


@pytest.fixture
def package() -> ModuleType:
    return importlib.import_module("yoloqat.compat.pytorch_quantization")


def by(package: ModuleType, detector: Detector, records: tuple[ImageRecord, ...], method: str) -> dict[str, float]:
    calibrate_with(package, detector, TorchPredictor(detector), records, MethodSpec.parse(method), imgsz=IMGSZ, batch=2)
    return {name: float(quantizer.amax) for name, quantizer in activation_quantizers(detector.module)}


def ours(detector: Detector, records: tuple[ImageRecord, ...], method: str) -> dict[str, float]:
    statistics = collect_statistics(detector, TorchPredictor(detector), records, imgsz=IMGSZ, batch=2)
    return apply_method(detector, statistics, MethodSpec.parse(method))


def test_max_is_ours_and_weights_too(package: ModuleType, swapped: Detector, records: tuple[ImageRecord, ...]) -> None:
    expected = ours(swapped, records, "max")
    weights = {name: layer._weight_quantizer.amax.clone() for name, layer in quantized_layers(swapped.module)}
    for _, layer in quantized_layers(swapped.module):
        layer._weight_quantizer.amax = layer._weight_quantizer.amax * 2
    assert by(package, swapped, records, "max") == expected
    for name, layer in quantized_layers(swapped.module):
        assert (layer._weight_quantizer.amax == weights[name]).all(), name
        assert layer._weight_quantizer.amax.shape == weights[name].shape


@pytest.mark.parametrize("method", ["entropy", "mse", "percentile-99"])
def test_other_methods_take_the_packages_search(
    package: ModuleType, swapped: Detector, records: tuple[ImageRecord, ...], method: str
) -> None:
    top = ours(swapped, records, "max")
    found = by(package, swapped, records, method)
    assert found.keys() == top.keys()
    assert all(0 < found[name] <= top[name] * (1 + 1e-6) for name in top)
    assert found != top


def test_a_real_package_agrees_with_ours(swapped: Detector, records: tuple[ImageRecord, ...]) -> None:
    pytest.importorskip("pytorch_quantization", reason="NVIDIA's own pytorch-quantization is not installed")
    expected = ours(swapped, records, "max")
    assert by(nvidia_package(), swapped, records, "max") == pytest.approx(expected, rel=1e-5)


def test_an_absent_package_is_told_with_what_to_do() -> None:
    if importlib.util.find_spec("pytorch_quantization") is not None:
        pytest.skip("NVIDIA's own package is installed")
    with pytest.raises(DependencyError, match=r"'pytorch_quantization' is not installed.*leave backend out"):
        nvidia_package()
    with compat.installed(), pytest.raises(DependencyError, match="'pytorch_quantization' is not installed"):
        nvidia_package()


def test_what_the_package_does_not_know_is_refused(swapped: Detector, tiny_model) -> None:
    with pytest.raises(ConfigError, match="method is 'per-layer' with backend pytorch-quantization"):
        check_backend(swapped, MethodSpec("per-layer"))
    affine = load_detector(tiny_model)
    affine.quantize(QuantConfig(activations=QuantScheme(symmetric=False)))
    with pytest.raises(ConfigError, match=r"scheme of 'model\.0\.conv\._input_quantizer' is affine"):
        check_backend(affine, MethodSpec("max"))


def test_a_quantizer_that_is_not_reached_is_named(
    package: ModuleType, swapped: Detector, records: tuple[ImageRecord, ...]
) -> None:
    swapped.module.get_submodule("model.2.m.0").forward = lambda x: x
    with pytest.raises(CalibrationError, match=r"quantizer 'model\.2\.m\.0\..*' was not reached"):
        by(package, swapped, records, "max")


def test_the_version_is_told(package: ModuleType) -> None:
    stated = ModuleType("pytorch_quantization")
    assert package_version(stated) == "unknown"
    stated.__version__ = "2.2.1"
    assert package_version(stated) == "2.2.1"
