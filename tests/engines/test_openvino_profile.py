"""Times of nodes, joined to those of layers."""

from __future__ import annotations

import numpy as np
import pytest

from yoloqat.engines.openvino_profile import Profile, profile_models


def test_what_runs_before_a_layer_belongs_to_it():
    nodes = {"quantize": 1.0, "a/WithoutBiases": 2.0, "a/split": 3.0, "cat": 4.0, "b": 5.0, "sigmoid": 6.0, "a_1": 7.0}
    profile = Profile(nodes)
    layers = {"a": "a", "b": "b", "c": "c", "a_1": "a"}
    assert profile.by_layer(layers) == {"a": 19.0, "b": 9.0, "c": 0.0}, "a layer may run twice"
    assert profile.latency_ms == 28.0


def test_models_are_timed_in_turn_and_every_layer_is_among_their_nodes(tiny_engine):
    seen = []
    images = np.zeros((1, 3, 64, 64), dtype=np.float32)
    models = {"one": tiny_engine, "two": tiny_engine}
    found = profile_models(models, images, threads=1, rounds=2, progress=lambda *step: seen.append(step))
    assert seen == [("profile", done, 2) for done in range(3)]
    names = ("model.0.conv", "model.3.conv", "model.9.cv3.0.1.conv")
    layers = found["one"].by_layer({name: name for name in names})
    assert min(layers.values()) > 0.0
    assert found["one"].latency_ms == pytest.approx(sum(found["one"].nodes.values()))
