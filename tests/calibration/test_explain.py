from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_detector import IMGSZ

from yoloqat.calibration import Statistics, apply_method, collect_statistics
from yoloqat.calibration.cache import statistics_of
from yoloqat.calibration.explain import explain, histograms, quantizers_named, weight_facts
from yoloqat.config import MethodSpec, QuantScheme
from yoloqat.datasets import ImageRecord
from yoloqat.detectors import Detector, TorchPredictor, load_detector
from yoloqat.errors import CalibrationError, ConfigError, ModelError
from yoloqat.quant import TensorQuantizer, activation_quantizers
from yoloqat.quant.functional import fake_quant

INPUT = "model.2.cv1.conv._input_quantizer"


@pytest.fixture
def statistics(swapped: Detector, records: tuple[ImageRecord, ...]) -> Statistics:
    found = collect_statistics(swapped, TorchPredictor(swapped), records, imgsz=IMGSZ, batch=4)
    apply_method(swapped, found, MethodSpec("mse"))
    return found


def test_a_quantizer_has_the_facts_of_its_histogram(swapped: Detector, statistics: Statistics) -> None:
    found = explain(swapped, statistics, INPUT)
    facts = found[INPUT]
    quantizer = dict(activation_quantizers(swapped.module))[INPUT]
    histogram = statistics.histograms[INPUT]
    assert facts["amax"] == pytest.approx(float(quantizer.amax))
    assert facts["scale"] == pytest.approx(float(quantizer.amax) / 127)
    assert (facts["count"], facts["low"], facts["high"]) == (histogram.counts.sum(), histogram.low, histogram.high)
    assert facts["among"]["count"] == len(statistics.histograms)
    assert facts["verdict"] in repr(found)
    assert json.loads(json.dumps(found.to_dict())).keys() == {INPUT}


def test_a_shared_scale_tells_each_tensor_apart(swapped: Detector, statistics: Statistics) -> None:
    group = next(group for group in swapped.quantization.placement.groups if len(group.tensors) > 1)
    alias = group.tensors[-1].locations[0]
    facts = explain(swapped, statistics, alias)[alias]
    assert facts["tensor"] == group.tensors[-1].name
    assert facts["shared_count"] == len(group.tensors)
    assert [tensor["name"] for tensor in facts["shared"]] == [tensor.name for tensor in group.tensors]
    for tensor in facts["shared"]:
        alone = statistics.tensors[group.owner][tensor["name"]]
        assert tensor["own"]["amax"] == pytest.approx(alone.compute_amax(MethodSpec("mse")))
        assert tensor["own"]["error_ratio"] <= 1.01
    older = replace(statistics, tensors={})
    assert explain(swapped, older, alias)[alias]["shared"] == ()


def test_every_quantizer_has_a_histogram_that_all_its_locations_share(
    swapped: Detector, statistics: Statistics
) -> None:
    found = histograms(swapped, statistics)
    own = next(entry for entry in found if INPUT in entry["quantizers"])
    facts = explain(swapped, statistics, INPUT)[INPUT]["histogram"]
    assert (tuple(own["shares"]), own["end"], own["clip"]) == (facts["shares"], facts["edges"][-1], facts["clip"])
    assert all(sum(entry["shares"]) == pytest.approx(1.0) for entry in found)
    group = next(group for group in swapped.quantization.placement.groups if len(group.tensors) > 1)
    assert [set(group.locations) <= set(entry["quantizers"]) for entry in found].count(True) == 1
    weights = histograms(swapped, None)
    assert len(weights) == len(swapped.quantization.layers)
    assert {entry["unit"] for entry in weights} == {"step"}
    assert len(found) == len(weights) + len(statistics.histograms)


def test_a_layer_is_its_input_and_its_weight(swapped: Detector, statistics: Statistics) -> None:
    both = (INPUT, "model.2.cv1.conv._weight_quantizer")
    for name in ("model.2.cv1.conv", "model.2.cv1"):
        assert quantizers_named(swapped, name) == both
    assert tuple(explain(swapped, statistics, "model.2.cv1").results) == both


def test_a_name_of_a_sensitivity_item_is_understood(swapped: Detector) -> None:
    found = quantizers_named(swapped, "model.2.m.0 (residual)")
    assert found == quantizers_named(swapped, "model.2.m.0")
    assert all(location.startswith("model.2.m.0._") for location in found)


def test_an_unknown_name_names_near_ones(swapped: Detector) -> None:
    with pytest.raises(
        ConfigError, match=r"quantizer 'model\.2\.cv3' is not in the model.*did you mean .*model\.2\.cv2"
    ):
        quantizers_named(swapped, "model.2.cv3")


def test_a_block_of_several_layers_names_them(swapped: Detector) -> None:
    with pytest.raises(
        ConfigError, match=r"quantizer 'model\.2' is not one: \d+ layers.*name one of model\.2\.cv1\.conv"
    ):
        quantizers_named(swapped, "model.2")


def test_a_float_model_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny\.pt' is float and has no quantizer 'model\.0'"):
        quantizers_named(load_detector(tiny_model), "model.0")


@pytest.mark.parametrize("images", [None, 3])
def test_a_quantizer_without_statistics_is_named(swapped: Detector, images: int | None) -> None:
    given = None if images is None else Statistics({}, images, 0.0)
    with pytest.raises(CalibrationError, match=f"'{INPUT}' is not among the statistics of {images or 0} images"):
        explain(swapped, given, INPUT)


def test_a_quantizer_without_a_range_is_named(swapped: Detector, statistics: Statistics) -> None:
    dict(activation_quantizers(swapped.module))[INPUT].reset_amax()
    with pytest.raises(CalibrationError, match=f"'{INPUT}' has no amax"):
        explain(swapped, statistics, INPUT)


@pytest.mark.parametrize("axis", [0, 1, None])
def test_a_weight_has_its_own_errors(axis: int | None) -> None:
    scheme = QuantScheme(axis=axis, narrow_range=True)
    weight = torch.randn(6, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    channel = weight.select(axis or 0, 4)
    channel *= 40.0
    quantizer = TensorQuantizer(scheme)
    quantizer.amax = weight.abs().max() if axis is None else weight.abs().amax([n for n in range(4) if n != axis], True)
    facts = weight_facts("layer._weight_quantizer", weight, quantizer)
    expected = float((fake_quant(weight, quantizer.amax, scheme) - weight).double().square().mean())
    assert facts.usage.error == pytest.approx(expected, rel=1e-4)
    assert (facts.channels.channel, facts.method, facts.per_channel) == (4, "max", axis is not None)
    assert facts.channels.largest_over_median == pytest.approx(40, rel=0.4)
    options = {option.name: option for option in facts.options}
    assert options["max"].error_ratio == pytest.approx(1.0, rel=1e-4)
    other = options["one scale, max" if axis is not None else "per channel, max"].error_ratio
    assert other > 1.05 if axis is not None else other < 0.95
    assert facts.histogram.unit == ("value" if axis is None else "step")
    assert facts.usage.reached[1] - facts.usage.reached[0] > 127


def test_a_range_that_no_method_gives_has_none(swapped: Detector, statistics: Statistics) -> None:
    method = {"type": "MethodSpec", "version": 1, "kind": "mse", "percentile": None}
    swapped.quantization = replace(swapped.quantization, calibration={"method": method})
    assert explain(swapped, statistics, INPUT)[INPUT]["method"] == "mse"
    per_layer = {"method": method | {"kind": "per-layer"}, "per-layer": {INPUT: "max"}}
    swapped.quantization = replace(swapped.quantization, calibration=per_layer)
    assert explain(swapped, statistics, INPUT)[INPUT]["method"] is None
    dict(activation_quantizers(swapped.module))[INPUT].amax = statistics.histograms[INPUT].amax
    assert explain(swapped, statistics, INPUT)[INPUT]["method"] == "max"


def test_statistics_of_a_checkpoint_are_found_and_others_refused(
    tiny_checkpoint: Path, swapped: Detector, statistics: Statistics, tmp_path: Path
) -> None:
    detector = load_detector(tiny_checkpoint)
    found = statistics_of(detector, tiny_checkpoint)
    named = next(tiny_checkpoint.parent.glob("histograms-*.npz"))
    assert found.made_of == Statistics.load(named).made_of
    np.testing.assert_array_equal(
        statistics_of(detector, tmp_path / "x", named).histograms[INPUT].counts, found.histograms[INPUT].counts
    )
    alone = tmp_path / "alone" / "model.safetensors"
    with pytest.raises(CalibrationError, match=r"alone/model\.safetensors' has no statistics of its calibration"):
        statistics_of(detector, alone)
    foreign = tmp_path / "foreign.npz"
    replace(statistics, made_of=found.made_of | {"imgsz": 96}).save(foreign)
    with pytest.raises(CalibrationError, match=r"foreign\.npz' were collected with imgsz 96 instead of 64"):
        statistics_of(detector, tiny_checkpoint, foreign)
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "histograms-0.npz").write_bytes(b"damaged")
    foreign.rename(tmp_path / "alone" / "histograms-1.npz")
    with pytest.raises(CalibrationError, match=r"has no statistics"):
        statistics_of(detector, alone)
