from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_detector import IMGSZ, TinyData

from yoloqat.calibration import Statistics, apply_method, choose_methods, collect_statistics
from yoloqat.calibration.per_layer import CANDIDATES
from yoloqat.config import MethodSpec, QuantConfig, QuantScheme
from yoloqat.datasets import ImageRecord, plan_batches, read_batches
from yoloqat.detectors import Detector, TorchPredictor, load_detector
from yoloqat.errors import CalibrationError, ConfigError
from yoloqat.quant import activation_quantizers, quantization_disabled, quantized_layers, quantizers

METHODS = (MethodSpec("max"), MethodSpec("mse"), MethodSpec("percentile", 90.0))


def collect(detector: Detector, records: tuple[ImageRecord, ...]) -> Statistics:
    return collect_statistics(detector, TorchPredictor(detector), records, imgsz=IMGSZ, batch=2)


def choose(detector, statistics, records, methods=METHODS, **more):
    return choose_methods(
        detector, TorchPredictor(detector), statistics, records, methods=methods, imgsz=IMGSZ, batch=2, **more
    )


def float_calls(detector: Detector, records: tuple[ImageRecord, ...]):
    """Return input and output of every quantized layer in the float model, all images in one batch."""
    calls = {}
    layers = dict(quantized_layers(detector.module))
    handles = [
        layer.register_forward_hook(
            lambda _, inputs, output, name=name: (calls.setdefault(name, (inputs[0], output)), None)[1]
        )
        for name, layer in layers.items()
    ]
    with quantization_disabled(detector.module):
        for batch in read_batches(plan_batches(records, IMGSZ, len(records))):
            TorchPredictor(detector)(batch.images)
    for handle in handles:
        handle.remove()
    return layers, calls


@pytest.mark.parametrize("symmetric", [True, False])
def test_errors_are_those_of_the_outputs_of_the_reading_layers(
    tiny_model: Path, records: tuple[ImageRecord, ...], symmetric: bool
) -> None:
    detector = load_detector(tiny_model)
    detector.quantize(QuantConfig(activations=QuantScheme(bits=4, symmetric=symmetric)))
    statistics = collect(detector, records)
    choices = choose(detector, statistics, records)
    layers, calls = float_calls(detector, records)
    expected: dict[int, dict[str, float]] = {}
    for method in METHODS:
        apply_method(detector, statistics, method)
        for name, layer in layers.items():
            x, y = calls[name]
            with torch.inference_mode():
                error = ((layer(x) - y).double().square().sum() / y.double().square().sum()).item()
            sums = expected.setdefault(id(layer._input_quantizer), {})
            sums[str(method)] = sums.get(str(method), 0.0) + error
    compared = 0
    for name, quantizer in activation_quantizers(detector.module):
        if id(quantizer) in expected:
            assert choices[name].errors == pytest.approx(expected[id(quantizer)], rel=1e-3), name
            assert choices[name].errors[str(choices[name].method)] == min(choices[name].errors.values())
            compared += 1
    assert compared > 10
    assert len({choice.method for choice in choices.values()}) > 1


def test_a_tensor_that_no_layer_reads_counts_itself(swapped: Detector, records: tuple[ImageRecord, ...]) -> None:
    statistics = collect(swapped, records)
    read = {id(layer._input_quantizer) for _, layer in quantized_layers(swapped.module)}
    alone = [name for name, quantizer in activation_quantizers(swapped.module) if id(quantizer) not in read]
    choices = choose(swapped, statistics, records)
    assert set(choices) == {name for name, _ in activation_quantizers(swapped.module)}
    for name in alone:
        assert choices[name].errors["max"] > 0


def test_choosing_leaves_switches_and_hooks_as_they_were(swapped: Detector, records: tuple[ImageRecord, ...]) -> None:
    statistics = collect(swapped, records)
    before = [(name, q._disabled, q._if_quant, q._if_calib) for name, q in quantizers(swapped.module)]
    choose(swapped, statistics, records)
    assert [(name, q._disabled, q._if_quant, q._if_calib) for name, q in quantizers(swapped.module)] == before
    assert not any(module._forward_hooks for module in swapped.module.modules())


def test_of_equal_ranges_the_first_method_is_taken(swapped: Detector, records: tuple[ImageRecord, ...]) -> None:
    statistics = collect(swapped, records)
    twice = (MethodSpec("max"), MethodSpec("max"))
    assert {choice.method for choice in choose(swapped, statistics, records, twice).values()} == {MethodSpec("max")}


def test_few_images_are_looked_at(swapped: Detector, records: tuple[ImageRecord, ...]) -> None:
    told: list[tuple[str, int, int]] = []
    statistics = collect(swapped, records)
    choose(swapped, statistics, records, images=2, progress=lambda *step: told.append(step))
    assert told[-1] == ("choose per layer", 2, 2)


def test_choices_are_applied_by_name(swapped: Detector, records: tuple[ImageRecord, ...]) -> None:
    statistics = collect(swapped, records)
    names = [name for name, _ in activation_quantizers(swapped.module)]
    mixed = {name: METHODS[index % 2] for index, name in enumerate(names)}
    each = {method: apply_method(swapped, statistics, method) for method in METHODS[:2]}
    found = apply_method(swapped, statistics, mixed)
    assert found == {name: each[method][name] for name, method in mixed.items()}


def test_a_quantizer_that_is_not_reached_is_named(swapped: Detector, records: tuple[ImageRecord, ...]) -> None:
    statistics = collect(swapped, records)
    swapped.module.get_submodule("model.2.m.0").forward = lambda x: x
    with pytest.raises(
        CalibrationError, match=r"quantizer 'model\.2\.m\.0\..*_quantizer' was not reached by the 4 images to choose"
    ):
        choose(swapped, statistics, records)


def test_one_histogram_cannot_choose(swapped: Detector, records: tuple[ImageRecord, ...], tiny_data: TinyData) -> None:
    with pytest.raises(ConfigError, match="calibration method is 'per-layer' for a single histogram"):
        apply_method(swapped, collect(swapped, records), MethodSpec("per-layer"))
    assert MethodSpec.parse("per-layer") not in CANDIDATES
