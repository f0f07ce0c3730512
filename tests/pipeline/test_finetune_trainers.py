"""Which trainer a configuration is for, on which devices, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig
from yoloqat.datasets import DetectionDataset
from yoloqat.errors import ConfigError
from yoloqat.finetuning import FinetuneConfig, SupervisionConfig
from yoloqat.pipeline.finetune_trainers import Places, trainer_for, training_devices
from yoloqat.pipeline.ptq import refuse_settings

YAML, IMAGES = Path("data.yaml"), Path("unlabelled")


@pytest.fixture
def place(dataset: DetectionDataset) -> Places:
    return Places(("cpu",), Path("model.safetensors"), dataset, EvalConfig())


@pytest.fixture
def two(dataset: DetectionDataset) -> Places:
    return Places(("cpu", "cpu"), Path("model.safetensors"), dataset, EvalConfig())


@pytest.mark.parametrize(("processes", "devices"), [(None, ("cpu",)), (1, ("cpu",)), (3, ("cpu",) * 3)])
def test_each_process_has_a_device(processes, devices):
    assert training_devices("cpu", processes) == devices


@pytest.mark.parametrize(
    ("device", "processes", "message"),
    [
        ("cpu,cpu", None, "the devices are 'cpu,cpu'; .*; name each once; on a CPU set processes$"),
        ("cpu,cpu", 3, "3 processes are to train on the device 'cpu,cpu'; .*name the devices, as device=0,1$"),
        ("cpu", 0, "processes is 0; expected a whole number of at least 1"),
        ("nowhere", None, "device is 'nowhere'"),
    ],
)
def test_devices_that_do_not_go_with_the_processes_are_named(device, processes, message):
    with pytest.raises(ConfigError, match=message):
        training_devices(device, processes)


def test_the_configuration_chooses_the_trainer(place, two):
    supervision, training = SupervisionConfig(stride=2), FinetuneConfig(processes=2)
    assert trainer_for(supervision, YAML, place, images=IMAGES).config is supervision
    assert trainer_for(training, YAML, two).config is training


def test_processes_and_images_that_do_not_go_with_it_are_named(place, two):
    with pytest.raises(ConfigError, match=r"2 processes do not go with distillation alone \(stride is 3\)"):
        trainer_for(SupervisionConfig(stride=3), YAML, two)
    with pytest.raises(ConfigError, match=r"to train on \('unlabelled'\).*set SupervisionConfig.stride$"):
        trainer_for(FinetuneConfig(), YAML, place, images=IMAGES)
    with pytest.raises(ConfigError, match=r"processes is 4 and the devices are 'cpu,cpu'; .*; set processes to 2;"):
        trainer_for(FinetuneConfig(batch=8, processes=4), YAML, two)


@pytest.mark.parametrize("setting", ["quant", "method"])
def test_settings_that_would_change_nothing_are_refused(setting):
    quant = QuantConfig(adds="none") if setting == "quant" else QuantConfig()
    method = MethodSpec("max") if setting == "method" else CalibrationConfig().method
    refuse_settings(Path("a.safetensors"), QuantConfig(), CalibrationConfig().method)
    with pytest.raises(ConfigError, match=r"came with 'a.safetensors', which is calibrated already"):
        refuse_settings(Path("a.safetensors"), quant, method)
