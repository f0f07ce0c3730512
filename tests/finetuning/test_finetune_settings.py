from __future__ import annotations

import pytest

from yoloqat.config import from_dict, to_dict
from yoloqat.errors import ConfigError
from yoloqat.finetuning import FinetuneConfig, LossWeights, SupervisionConfig, parse_rates


def test_settings_go_through_plain_values() -> None:
    config = FinetuneConfig(epochs=3, weights=LossWeights(task=0.5), arguments=("mosaic=0.5",))
    assert from_dict(FinetuneConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch": 1.5}, "batch is 1.5"),
        ({"lr0": 0}, "lr0 is 0"),
        ({"lr0": float("nan")}, "lr0 is nan"),
        ({"patience": -1}, "patience is -1"),
        ({"learn_amax": 1}, "learn_amax is 1"),
        ({"keep_bn": 0}, "keep_bn is 0"),
        ({"processes": 0}, "processes is 0"),
        ({"batch": 5, "processes": 2}, "a batch of 5 images is shared by 2 processes"),
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        FinetuneConfig(**changes)


def test_weights_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="the weight of outputs is -1"):
        LossWeights(outputs=-1)
    with pytest.raises(ConfigError, match="the loss weights are 0, 0 and 0"):
        LossWeights(task=0, outputs=0, features=0)


def test_distillation_is_off_without_weights() -> None:
    assert LossWeights().distils
    assert not LossWeights(outputs=0, features=0).distils


def test_rates_hold_from_their_epoch_on() -> None:
    config = SupervisionConfig(rates=parse_rates("0:1e-6,6:1e-5,7:1e-6"))
    assert [config.rate(epoch) for epoch in (0, 5, 6, 7, 9)] == [1e-6, 1e-6, 1e-5, 1e-6, 1e-6]
    assert parse_rates("1e-4") == ((0, 1e-4),)


@pytest.mark.parametrize("text", ["fast", "0:1e-6,1e-5", "0=1e-6,1=1", ""])
def test_malformed_rates_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"the learning rate is '{text}'"):
        parse_rates(text)


def test_rates_in_disorder_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"from the epochs \[1, 0\]"):
        SupervisionConfig(rates=((1, 1e-5), (0, 1e-5)))
    with pytest.raises(ConfigError, match="a learning rate is -1"):
        SupervisionConfig(rates=((0, -1.0),))
    with pytest.raises(ConfigError, match="stride is 0"):
        SupervisionConfig(stride=0)
