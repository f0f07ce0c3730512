"""A torch detector as a predictor; devices and threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from yoloqat.config import QuantConfig
from yoloqat.detectors import TorchPredictor, load_detector, predictor, torch_device, torch_threads
from yoloqat.errors import ConfigError
from yoloqat.predictor import Predictor
from yoloqat.quant import quantization_disabled


def test_devices_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert torch_device("cpu") == torch.device("cpu")
    assert torch_device("0") == torch.device("cuda", 0)
    assert torch_device("cuda:1") == torch.device("cuda", 1)
    assert torch_device("auto") == torch.device("cuda", 0)


@pytest.mark.parametrize("name", ["2", "cuda:2", "cuda", "-1", "gpu", "", "cuda:", "0,1", "cpu:0"])
def test_a_device_that_is_not_there_is_named(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=f"device is '{name}'; expected auto, cpu or a CUDA index below 2"):
        torch_device(name)


def test_without_a_cuda_device_only_the_cpu_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="device is '0'; expected auto or cpu: torch sees no GPU here"):
        torch_device("0")
    assert torch_device("auto") == torch.device("cpu")


def test_threads_come_back():
    before = torch.get_num_threads()
    with torch_threads(before + 1) as threads:
        assert threads == torch.get_num_threads() == before + 1
        with torch_threads(None) as inner:
            assert inner == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(KeyboardInterrupt), torch_threads(before + 1):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == before


def test_a_detector_predicts(tiny, tiny_model, picture):
    expected = load_detector(tiny_model).module(picture).numpy()
    runner = TorchPredictor(tiny)
    assert isinstance(runner, Predictor)
    assert runner.info is tiny.info
    outputs = runner(picture.numpy())
    assert len(outputs) == 1
    assert (outputs[0].shape, outputs[0].dtype) == ((2, 7, 8 * 8 + 4 * 4), np.float32)
    np.testing.assert_allclose(outputs[0], expected, rtol=1e-4, atol=1e-4)


def test_switches_count_at_the_time_of_the_call(tiny, picture):
    runner, images = TorchPredictor(tiny), picture.numpy()
    before = runner(images)[0]
    tiny.quantize(QuantConfig())
    swapped = runner(images)[0]
    assert not np.array_equal(before, swapped)
    with quantization_disabled(tiny.module):
        assert np.array_equal(runner(images)[0], before)
    assert np.array_equal(runner(images)[0], swapped)


def test_a_batch_is_cut_in_the_same_places_whatever_its_size(tiny, monkeypatch):
    monkeypatch.setattr(predictor, "CPU_PIXELS", 2 * 64 * 64)
    images = np.random.default_rng(0).random((5, 3, 64, 64), dtype=np.float32)
    runner = TorchPredictor(tiny)
    whole = runner(images)[0]
    parts = [runner(images[start : start + 2])[0] for start in (0, 2, 4)]
    assert np.array_equal(whole, np.concatenate(parts))


def test_a_segmentation_model_gives_all_its_outputs(weights, picture):
    outputs = TorchPredictor(load_detector(weights("yolov8n-seg")))(picture.numpy())
    assert [output.shape for output in outputs] == [(2, 116, 84), (2, 32, 16, 16)]
