from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch

from yoloqat.config import EvalConfig
from yoloqat.datasets import load_dataset
from yoloqat.detectors import TorchPredictor, load_detector
from yoloqat.errors import ConfigError, DataError
from yoloqat.evaluation.reference import Reference
from yoloqat.quant import quantization_disabled, quantizers, state_digest
from yoloqat.sensitivity.items import Item
from yoloqat.sensitivity.noise import (
    ACTIVATIONS,
    OTHERS,
    PREFIX,
    WEIGHTS,
    WHOLE,
    NoiseBudget,
    NoiseScan,
    order_is_settled,
    root_sum_squares,
)
from yoloqat.sensitivity.settings import ScanConfig

CONFIG = EvalConfig(imgsz=64, batch=2)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(tiny_data):
    return load_dataset(tiny_data.yaml).images[:4]


@pytest.fixture
def make(tiny_checkpoint, images):
    def build(scan=None, config=CONFIG, records=images):
        detector = load_detector(tiny_checkpoint)
        return NoiseScan(detector, records, config=config, scan=scan or ScanConfig(), device=CPU, memory=1 << 30)

    return build


@pytest.fixture(scope="module")
def measured(tiny_checkpoint, images):
    detector = load_detector(tiny_checkpoint)
    scan = NoiseScan(detector, images, config=CONFIG, scan=ScanConfig(), device=CPU, memory=1 << 30)
    before = state_digest(detector.module)
    budget = scan.budget([scan.run(batch) for batch in range(len(scan.batches))])
    assert state_digest(detector.module) == before
    return budget


def alone(checkpoint, images, names):
    """The noise of some quantizers, by running the whole model with the others switched off."""
    detector = load_detector(checkpoint)
    predictor = TorchPredictor(detector)
    with quantization_disabled(detector.module):
        reference = Reference(predictor, images, CONFIG, detections=False)
    for name, quantizer in quantizers(detector.module):
        if name not in names:
            quantizer.disable()
    return reference.compare(predictor).measures["d"]


def test_each_quantizer_alone_is_what_the_whole_model_gives(measured, tiny_checkpoint, images):
    everything = {name for name, _ in quantizers(load_detector(tiny_checkpoint).module)}
    assert {item.name for item in measured.quantizers} == everything
    np.testing.assert_array_equal(measured.values[WHOLE], alone(tiny_checkpoint, images, everything))
    np.testing.assert_array_equal(measured.values[WEIGHTS], alone(tiny_checkpoint, images, measured.weights))
    rest = everything - measured.weights
    np.testing.assert_array_equal(measured.values[ACTIVATIONS], alone(tiny_checkpoint, images, rest))
    for item in (measured.quantizers[0], measured.quantizers[-1]):
        expected = alone(tiny_checkpoint, images, {item.name})
        np.testing.assert_array_equal(measured.quantizer_values(item), expected)


def test_shares_add_up_and_the_noisiest_has_the_largest(measured):
    for shares in (measured.shares(), measured.quantizer_shares()):
        assert sum(share.value for share in shares.values()) == pytest.approx(1.0)
        assert all(share.low <= share.value <= share.high for share in shares.values())
    shares = measured.shares()
    largest = max(shares, key=lambda name: shares[name].value)
    assert measured.d(largest).value > np.median([measured.d(item.name).value for item in measured.items])


def test_squares_add_up_to_about_the_whole(measured):
    ratio = measured.predicted.mean() / measured.values[WHOLE].mean()
    assert 0.6 < ratio < 1.6
    assert measured.images == 4


def budget(values, whole):
    items = tuple(Item(name, (name,), (name,)) for name in values)
    known = {name: np.asarray(own, float) for name, own in values.items()}
    known |= {PREFIX + name: own for name, own in list(known.items())} | {WHOLE: np.asarray(whole, float)}
    return NoiseBudget(items, items, frozenset(), known)


def test_independent_noises_add_up_by_their_squares():
    found = budget({"a": [3.0, 6.0], "b": [4.0, 8.0]}, [5.0, 10.0])
    np.testing.assert_allclose(found.predicted, [5.0, 10.0])
    np.testing.assert_allclose(root_sum_squares(np.array([[3.0], [4.0], [12.0]])), [13.0])
    assert {name: share.value for name, share in found.shares().items()} == pytest.approx({"a": 0.36, "b": 0.64})
    assert found.left([]) == 7.5
    assert found.left(["b"]) == pytest.approx(4.5)
    assert found.left(["a", "b"]) == 0.0


def test_an_image_on_which_the_float_model_sees_nothing_does_not_count():
    found = budget({"a": [3.0, np.nan], "b": [4.0, np.nan]}, [5.0, np.nan])
    assert {name: share.value for name, share in found.shares().items()} == pytest.approx({"a": 0.36, "b": 0.64})
    assert found.shares()["a"].images == 1
    assert found.left(["b"]) == pytest.approx(3.0)
    nothing = budget({"a": [np.nan], "b": [np.nan]}, [np.nan])
    assert np.isnan(nothing.shares()["a"].value)


def test_a_model_without_noise_has_no_shares():
    found = budget({"a": [0.0, 0.0], "b": [0.0, 0.0]}, [0.0, 0.0])
    assert found.shares()["a"].value == 0.0
    assert found.left(["a"]) == 0.0
    assert order_is_settled(np.zeros((3, 4)), 2)


def test_the_order_is_settled_where_images_agree():
    rng = np.random.default_rng(0)
    scale = np.array([10.0, 5.0, 1.0, 0.9, 0.8])[:, None]
    assert order_is_settled(scale * rng.uniform(0.9, 1.1, (5, 16)), 2)
    one_each = np.full((5, 16), 0.1)
    one_each[rng.integers(5, size=16), np.arange(16)] = 10.0  # every image has another noisiest item
    assert not order_is_settled(one_each, 2)
    assert not order_is_settled(scale * np.ones((5, 1)), 2)
    assert order_is_settled(one_each, 5)


def test_what_groups_leave_out_is_one_more_item(make):
    scan = make(ScanConfig(granularity="group", groups=("first=model.0*",)))
    assert [item.name for item in scan.items] == ["first", OTHERS]
    assert not set(scan.items[0].edges) & set(scan.items[1].edges)
    assert {edge for item in scan.items for edge in item.edges} == set(scan._single[WHOLE])


def test_fewer_bits_make_more_noise(make, measured):
    scan = make(ScanConfig(bits=4))
    name = scan.items[0].name
    coarse = scan.run(0, {name: scan.items[0].edges})[name]
    assert np.mean(coarse) > 3 * measured.values[name][:2].mean()


def test_float_layers_take_their_edges_along(make):
    scan = make()
    item = next(item for item in scan.items if item.layers)
    left = scan.without([item])
    assert not set(item.edges) & set(left)
    assert len(left) == len(scan._single[WHOLE]) - len(item.edges)


def test_progress_is_told_of_every_model(make):
    told = []
    scan = make(records=make().images[:2])
    scan.run(0, progress=lambda *state: told.append(state))
    assert told == [(count, len(scan.names)) for count in range(1, len(scan.names) + 1)]


def test_no_image_and_an_unfit_size_are_refused(make):
    with pytest.raises(DataError, match="there are 0 images to measure the noise on"):
        make(records=())
    with pytest.raises(ConfigError, match=re.escape("imgsz is 70")):
        make(config=EvalConfig(imgsz=70))


def test_the_detector_stays_as_it_was(tiny_checkpoint, images):
    detector = load_detector(tiny_checkpoint)
    kept = copy.deepcopy(detector.module.state_dict())
    NoiseScan(detector, images[:2], config=CONFIG, scan=ScanConfig(), device=CPU, memory=1).run(0)
    assert all(torch.equal(kept[name], value) for name, value in detector.module.state_dict().items())
