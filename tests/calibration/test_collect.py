from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_detector import IMGSZ, TinyData

from yoloqat.calibration import Statistics, apply_method, collect_statistics
from yoloqat.config import MethodSpec, QuantConfig, QuantScheme
from yoloqat.datasets import ImageRecord
from yoloqat.detectors import Detector, TorchPredictor, load_detector
from yoloqat.errors import CalibrationError, DataError
from yoloqat.predictor import Images, RawOutputs
from yoloqat.quant import activation_quantizers, quantized_layers, quantizers

METHODS = ("max", "entropy", "mse", "percentile-99.9")


class Counting(TorchPredictor):
    """Counts the images and forwards it was given."""

    forwards = 0
    seen: tuple[int, ...] = ()

    def __call__(self, images: Images) -> RawOutputs:
        self.forwards += 1
        self.seen += (len(images),)
        return super().__call__(images)


def collect(detector: Detector, records: tuple[ImageRecord, ...], batch: int = 3) -> Statistics:
    return collect_statistics(detector, TorchPredictor(detector), records, imgsz=IMGSZ, batch=batch)


def switches(detector: Detector) -> list[tuple[str, bool, bool, bool]]:
    return [(name, q._disabled, q._if_quant, q._if_calib) for name, q in quantizers(detector.module)]


def test_collection_leaves_the_detector_as_it_was(swapped: Detector, records: tuple[ImageRecord, ...]) -> None:
    apply_method(swapped, collect(swapped, records), MethodSpec("max"))
    first = next(iter(dict(quantized_layers(swapped.module)).values()))
    first._input_quantizer.disable()
    before = {name: value.clone() for name, value in swapped.module.state_dict().items()}
    before_switches = switches(swapped)
    collect(swapped, records)
    after = swapped.module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert switches(swapped) == before_switches


def test_every_quantized_layer_has_a_histogram_of_all_images(
    swapped: Detector, records: tuple[ImageRecord, ...]
) -> None:
    predictor = Counting(swapped)
    told: list[tuple[str, int, int]] = []
    found = collect_statistics(
        swapped, predictor, records, imgsz=IMGSZ, batch=3, progress=lambda *step: told.append(step)
    )
    assert list(found.histograms) == [name for name, _ in activation_quantizers(swapped.module)]
    assert (predictor.seen, found.images) == ((3, 1), 4)
    assert told == [("collect statistics", 3, 4), ("collect statistics", 4, 4)]
    first = found.histograms["model.0.conv._input_quantizer"]
    assert first.counts.sum() == 4 * 3 * IMGSZ * IMGSZ
    assert 0.0 <= first.low < first.high <= 1.0


def test_statistics_depend_on_the_images_and_hardly_on_their_batches(
    swapped: Detector, records: tuple[ImageRecord, ...]
) -> None:
    one, all_ = collect(swapped, records, batch=1), collect(swapped, records, batch=4)
    first = [statistics.histograms["model.0.conv._input_quantizer"] for statistics in (one, all_)]
    np.testing.assert_array_equal(first[0].counts, first[1].counts)  # the images themselves: no arithmetic in between
    for name, histogram in one.histograms.items():
        assert all_.histograms[name].amax == pytest.approx(histogram.amax, rel=1e-5), name


def test_statistics_are_of_the_float_model_whatever_was_calibrated_before(
    swapped: Detector, records: tuple[ImageRecord, ...]
) -> None:
    before = collect(swapped, records)
    for _, layer in quantized_layers(swapped.module):
        layer._input_quantizer.amax = 1e-3
    after = collect(swapped, records)
    for name, histogram in before.histograms.items():
        np.testing.assert_array_equal(histogram.counts, after.histograms[name].counts, err_msg=name)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_name_the_layer_and_the_images(
    swapped: Detector, records: tuple[ImageRecord, ...], value: float
) -> None:
    layer = swapped.module.get_submodule("model.1.conv")
    with torch.no_grad():
        layer.bias[0] = value
    before = switches(swapped)
    with pytest.raises(
        CalibrationError, match=r"'model\.2\.cv1\.conv._input_quantizer'|'model\.2\.cv1\.conv'"
    ) as caught:
        collect(swapped, records)
    for record in records[:3]:
        assert record.path.name in str(caught.value)
    assert records[3].path.name not in str(caught.value)
    assert switches(swapped) == before


def test_a_weight_that_is_not_finite_names_the_layer_when_it_is_swapped(tiny_model: Path) -> None:
    detector = load_detector(tiny_model)
    layer = detector.module.get_submodule("model.1.conv")
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(CalibrationError, match=r"'model\.1\.conv.*nan"):
        detector.quantize(QuantConfig())


def test_an_image_that_does_not_decode_is_named(
    swapped: Detector, records: tuple[ImageRecord, ...], tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    bad = ImageRecord(tmp_path / "bad.png", 9, 8, 8)
    before = switches(swapped)
    with pytest.raises(DataError, match=r"bad\.png' does not decode"):
        collect(swapped, (*records, bad))
    assert switches(swapped) == before


def test_a_layer_without_statistics_is_named(swapped: Detector, records: tuple[ImageRecord, ...]) -> None:
    found = collect(swapped, records)
    del found.histograms["model.2.m.0.cv1.conv._input_quantizer"]
    with pytest.raises(
        CalibrationError,
        match=r"'model\.2\.m\.0\.cv1\.conv._input_quantizer' was not reached by the 4 calibration images",
    ):
        apply_method(swapped, found, MethodSpec("max"))


def test_a_layer_that_no_image_reaches_has_no_statistics(swapped: Detector, records: tuple[ImageRecord, ...]) -> None:
    block = swapped.module.get_submodule("model.2.m.0")
    block.forward = lambda x: x
    found = collect(swapped, records)
    missing = {name for name, _ in activation_quantizers(swapped.module)} - set(found.histograms)
    assert missing == {"model.2.m.0.cv2.conv._input_quantizer"}  # the first layer's is shared with one that is reached


@pytest.mark.parametrize("text", METHODS)
def test_a_method_sets_every_range_and_leaves_weights_alone(
    swapped: Detector, records: tuple[ImageRecord, ...], text: str
) -> None:
    found = collect(swapped, records)
    weights = {name: q.amax.clone() for name, q in quantizers(swapped.module) if name.endswith("_weight_quantizer")}
    amax = apply_method(swapped, found, MethodSpec.parse(text))
    assert list(amax) == [name for name, _ in activation_quantizers(swapped.module)]
    for name, quantizer in activation_quantizers(swapped.module):
        assert amax[name] == float(quantizer.amax) > 0
        assert amax[name] <= found.histograms[name].amax
    for name, layer in quantized_layers(swapped.module):
        assert torch.equal(layer._weight_quantizer.amax, weights[f"{name}._weight_quantizer"])
    if text == "max":
        assert amax == pytest.approx({name: histogram.amax for name, histogram in found.histograms.items()})


def test_saved_statistics_give_the_same_ranges(
    swapped: Detector, records: tuple[ImageRecord, ...], tmp_path: Path
) -> None:
    found = collect(swapped, records)
    found.save(tmp_path / "s.npz")
    for text in METHODS:
        method = MethodSpec.parse(text)
        fresh = apply_method(swapped, found, method)
        assert apply_method(swapped, Statistics.load(tmp_path / "s.npz"), method) == fresh


@pytest.mark.parametrize("text", METHODS)
def test_affine_ranges_are_what_was_seen_cut_to_the_methods_amax(
    tiny_model: Path, tiny_data: TinyData, records: tuple[ImageRecord, ...], text: str
) -> None:
    detector = load_detector(tiny_model)
    detector.quantize(QuantConfig(activations=QuantScheme(symmetric=False)))
    found = collect(detector, records)
    method = MethodSpec.parse(text)
    apply_method(detector, found, method)
    for name, quantizer in activation_quantizers(detector.module):
        histogram = found.histograms[name]
        one_sided = -histogram.low <= histogram.high / 2
        limit = np.float32(histogram.compute_amax(method, bits=8, unsigned=one_sided))
        assert float(quantizer.low) == np.float32(max(min(histogram.low, 0.0), -limit)), name
        assert float(quantizer.amax) == np.float32(min(histogram.high, limit)), name
    assert float(dict(quantized_layers(detector.module))["model.0.conv"]._input_quantizer.low) == 0.0
    silu = dict(quantized_layers(detector.module))["model.1.conv"]._input_quantizer
    assert -0.2785 < float(silu.low) < 0 < float(silu.amax)


def test_a_shared_scale_counts_each_tensor_once(swapped: Detector, records: tuple[ImageRecord, ...]) -> None:
    # the chunk is read by a convolution and by the Add of its block, the concat by another convolution
    found = collect(swapped, records)
    chunk, joined = 16, 3 * 16
    pixels = 4 * (IMGSZ // 4) ** 2
    assert found.histograms["model.2.m.0.cv1.conv._input_quantizer"].counts.sum() == (chunk + joined) * pixels


def test_each_tensor_of_a_shared_scale_has_a_histogram_of_its_own(
    tiny_model: Path, swapped: Detector, records: tuple[ImageRecord, ...]
) -> None:
    found = collect(swapped, records)
    groups = {group.owner: group for group in swapped.quantization.placement.groups if len(group.tensors) > 1}
    assert found.tensors.keys() == groups.keys() != set()
    alone = load_detector(tiny_model)
    alone.quantize(QuantConfig(merge="tensor"))
    single = collect(alone, records)
    for owner, group in groups.items():
        assert list(found.tensors[owner]) == [tensor.name for tensor in group.tensors]
        for tensor in group.tensors:
            expected = single.histograms[tensor.locations[0]]
            histogram = found.tensors[owner][tensor.name]
            np.testing.assert_array_equal(histogram.counts, expected.counts, err_msg=tensor.name)
            assert (histogram.low, histogram.high) == (expected.low, expected.high)
        union = found.histograms[owner]
        assert union.counts.sum() == sum(part.counts.sum() for part in found.tensors[owner].values())
        assert union.high == max(part.high for part in found.tensors[owner].values())
