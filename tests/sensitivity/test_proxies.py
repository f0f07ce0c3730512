from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from yoloqat.quant import quantization_disabled
from yoloqat.quant.graph import Executor, trace
from yoloqat.sensitivity.edges import Switch, switched_quantizer
from yoloqat.sensitivity.proxies import PSEUDO_LABEL, Noise, edge_noise, joined
from yoloqat.sensitivity.scanner import head_error


@pytest.fixture
def scanner(make_scanner):
    return make_scanner()


@pytest.fixture
def noise(scanner):
    images, _ = scanner.images(0)
    executor = Executor(scanner.detector.module, trace(scanner.detector.module, images))

    def measure(bits=None):
        return edge_noise(executor, scanner.edges, images, classes=3, bits=bits)

    return measure


def seen_inputs(scanner, images):
    """The tensor each layer reads in the float model, by a hook on the layer itself."""
    found, handles = {}, []
    for edge in scanner.edges:
        if edge.of_layer and not edge.is_weight:
            layer = scanner.detector.module.get_submodule(edge.holder)
            handles.append(
                layer.register_forward_pre_hook(
                    lambda _, inputs, name=edge.name: found.setdefault(name, inputs[0].clone())
                )
            )
    with torch.inference_mode(), quantization_disabled(scanner.detector.module):
        scanner.detector.module(images)
    for handle in handles:
        handle.remove()
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def test_the_error_is_that_of_the_float_models_own_tensors(scanner, noise):
    images, _ = scanner.images(0)
    found = noise()
    edges = {edge.name: edge for edge in scanner.edges}
    inputs = {}
    for edge in scanner.edges:
        if edge.is_weight:
            inputs[edge.name] = scanner.detector.module.get_submodule(edge.holder).weight
    # the hook's first call gives the tensor back as the input, the same values
    inputs |= seen_inputs(scanner, images)
    for name, tensor in inputs.items():
        error = edges[name].quantizer(tensor) - tensor
        nmse = float(error.double().square().sum() / tensor.double().square().sum())
        assert found[name].nmse == pytest.approx(nmse, rel=1e-5)
        assert found[name].sqnr_db == pytest.approx(-10 * math.log10(nmse), abs=1e-3)


def test_fewer_bits_cost_six_decibels_each(noise):
    eight, six = noise(), noise(bits=6)
    gains = [eight[name].sqnr_db - six[name].sqnr_db for name in eight if eight[name].sqnr_db > 35]
    assert gains
    assert 9 < np.median(gains) < 13.5


@pytest.mark.parametrize("layer_name", ["model.9.cv3.1.1.conv", "model.2.cv1.conv"])
def test_the_gradient_is_that_of_the_module_itself(scanner, noise, layer_name):
    """The module run in float with autograd, and the loss written out."""
    images, _ = scanner.images(0)
    edge = next(edge for edge in scanner.edges if edge.name == f"{layer_name}._weight_quantizer")
    found = noise(bits=3)[edge.name].fisher
    weight = scanner.detector.module.get_submodule(layer_name).weight
    weight.requires_grad_(True)
    with quantization_disabled(scanner.detector.module):
        scores = scanner.detector.module(images)[:, 4:7].clamp(1e-6, 1 - 1e-6)
    labels = (scores.detach() > PSEUDO_LABEL).float()
    (-(labels * scores.log() + (1 - labels) * (1 - scores).log())).sum().backward()
    error = switched_quantizer(edge.quantizer, Switch(3))(weight.detach()) - weight.detach()
    expected = float((weight.grad * error).square().sum()) / len(images)
    assert found == pytest.approx(expected, rel=1e-3)
    assert found > noise(bits=8)[edge.name].fisher > 0


def test_the_errors_of_several_edges_add_up():
    noises = {"a": Noise(0.01, 2.0), "b": Noise(0.03, 3.0)}
    both = joined(noises, ["a", "b"])
    assert (both.nmse, both.fisher) == (0.04, 5.0)
    assert both.sqnr_db == pytest.approx(13.979, abs=1e-3)
    assert Noise(0.0, 0.0).sqnr_db is None


def test_head_error_counts_scores_and_the_boxes_that_will_be_seen():
    base = np.zeros((1, 6, 2), np.float32)
    base[0, :, 0] = 10, 10, 4, 3, 0.8, 0.6
    base[0, :, 1] = 50, 50, 8, 6, 0.0, 0.0
    assert head_error(base, base, classes=2) == 0.0
    scores = base.copy()
    scores[0, 4, 0] = 0.9
    assert head_error(scores, base, classes=2) == pytest.approx(0.01 / (0.64 + 0.36), rel=1e-5)
    boxes = base.copy()
    boxes[0, 0, 0] += 1
    boxes[0, 0, 1] += 100  # nobody sees it
    assert head_error(boxes, base, classes=2) == pytest.approx(0.8 / (0.8 * (16 + 9)), rel=1e-5)
    rows = np.ones((1, 3, 6), np.float32)
    assert head_error(rows * 2, rows, classes=80) == pytest.approx(1.0)
