from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from test_trainer import Interrupt, losses
from tiny_detector import IMGSZ
from tiny_training import STATE, outputs, settings, train
from torch import nn

from yoloqat.config import QuantConfig, QuantScheme
from yoloqat.detectors import Detector, load_detector
from yoloqat.detectors.ultralytics import batch_norms
from yoloqat.errors import ConfigError, ModelError
from yoloqat.finetuning import LAST, TrainingState
from yoloqat.finetuning.norms import FrozenBatchNorm2d, fold, foldable, unfold
from yoloqat.quant import activation_quantizers, quantized_layers, quantizers, state_digest
from yoloqat.quant.functional import inv_scale

HARD = {0: -1.5, 1: 0.0, 2: 1e-9, 3: 1e-4}
"""Scales of channels that are hard to divide by."""


@pytest.fixture
def norms(tiny_model: Path) -> dict[str, nn.BatchNorm2d]:
    return batch_norms(tiny_model)


def harden(norms: dict[str, nn.BatchNorm2d]) -> dict[str, nn.BatchNorm2d]:
    """Any scale that is not 0 can be taken out of a folded weight: these are others than those that were folded into it."""
    for norm in norms.values():
        for channel, gamma in HARD.items():
            norm.weight.data[channel] = gamma
        norm.running_mean.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    return norms


def weight_codes(detector: Detector) -> dict[str, torch.Tensor]:
    """The weights of the quantized layers in units of their step, before rounding."""
    return {
        name: layer.weight.detach() * inv_scale(layer._weight_quantizer.amax, layer._weight_quantizer.scheme)
        for name, layer in quantized_layers(detector.module)
    }


def close(ours: torch.Tensor, theirs: torch.Tensor, relative: float) -> bool:
    return bool((ours - theirs).abs().max() <= relative * theirs.abs().max())


def smooth(detector: Detector) -> torch.Tensor:
    """What a detector predicts without quantizers, which would turn a rounding error at a tie into a whole step."""
    located = [quantizer for _, quantizer in quantizers(detector.module)]
    for quantizer in located:
        quantizer.disable()
    found = outputs(detector)
    for quantizer in located:
        quantizer.enable()
    return found


def same(ours: Detector, theirs: Detector) -> bool:
    """Whether two detectors predict the same, but for rounding errors and the few codes that these change at ties."""
    difference = (outputs(ours) - outputs(theirs)).abs().mean()
    whole = (smooth(theirs) - outputs(theirs)).abs().mean()  # what quantization changes
    return close(smooth(ours), smooth(theirs), 1e-4) and bool(difference < 0.1 * whole)


def test_raw_weights_are_those_of_the_float_model(detector: Detector, tiny_model: Path, norms: dict) -> None:
    floating = torch.load(tiny_model, weights_only=False)["model"].float().state_dict()
    names = unfold(detector.module, norms)
    assert len(names) == len(norms) > 20
    for name in names:
        layer = detector.module.get_submodule(name)
        assert layer.bias is None
        assert close(layer.weight.detach(), floating[f"{name}.weight"], 1e-5)
        assert close(layer.norm.weight.detach(), floating[f"{name.removesuffix('conv')}bn.weight"], 1e-5)
        assert torch.allclose(layer.norm.bias.detach(), floating[f"{name.removesuffix('conv')}bn.bias"], atol=1e-5)


@pytest.mark.parametrize("hard", [False, True])
def test_unfolding_changes_no_output_and_folding_undoes_it(detector: Detector, norms: dict, hard: bool) -> None:
    before = copy.deepcopy(detector)
    unfold(detector.module, harden(norms) if hard else norms)
    assert any(isinstance(child, FrozenBatchNorm2d) for child in detector.module.modules())
    inside, outside = weight_codes(detector), weight_codes(before)
    for name, value in inside.items():
        signs = torch.sign(value.flatten(1).sum(1) * outside[name].flatten(1).sum(1)).reshape(-1, 1, 1, 1)
        ours, theirs = value * torch.where(signs == 0, 1, signs), outside[name]
        tie = (theirs - theirs.floor() - 0.5).abs() < 1e-4
        assert torch.equal(ours.round()[~tie], theirs.round()[~tie]), name
    assert same(detector, before)
    detector.module.train()  # statistics stay frozen
    detector.module(torch.rand(2, 3, IMGSZ, IMGSZ))
    detector.module.eval()
    assert same(detector, before)
    fold(detector.module)
    state, known = detector.module.state_dict(), before.module.state_dict()
    assert list(state) == list(known)
    assert all(close(value, known[name], 1e-5) for name, value in state.items())
    assert [type(child) for child in detector.module.modules()] == [type(child) for child in before.module.modules()]
    assert same(detector, before)


def test_channels_without_a_scale_stay_folded(detector: Detector, norms: dict) -> None:
    known = {name: layer.weight.detach().clone() for name, layer in quantized_layers(detector.module)}
    for name in unfold(detector.module, harden(norms)):
        layer = detector.module.get_submodule(name)
        assert torch.allclose(layer.norm.scale()[1:3], torch.ones(2, dtype=torch.float64))
        assert layer.weight.isfinite().all()
        if name in known:
            assert torch.allclose(layer.weight[1:3], known[name][1:3], rtol=1e-6)
            assert torch.allclose(layer.weight[3] * layer.norm.scale()[3].float(), known[name][3], rtol=1e-5)


def test_layers_that_stay_float_get_their_norms_back_too(tiny_model: Path, norms: dict) -> None:
    detector = load_detector(tiny_model)
    detector.quantize(QuantConfig(ignore=("model.0*",)))
    for _, quantizer in activation_quantizers(detector.module):
        quantizer.amax = 4.0
    before = copy.deepcopy(detector)
    unfold(detector.module, norms)
    assert not isinstance(detector.module.model[0].conv, type(detector.module.model[1].conv))
    assert isinstance(detector.module.model[0].conv.norm, FrozenBatchNorm2d)
    assert same(detector, before)
    fold(detector.module)
    assert type(detector.module.model[0].conv) is nn.Conv2d


def test_a_module_without_norms_is_folded_to_itself(detector: Detector) -> None:
    before = state_digest(detector.module)
    fold(detector.module)
    assert state_digest(detector.module) == before


@pytest.mark.parametrize(
    ("scheme", "said"),
    [
        (QuantScheme(axis=None, narrow_range=True), "has one scale for all channels"),
        (QuantScheme(axis=0, narrow_range=False), "has integers from -128 to 127"),
    ],
)
def test_weights_on_another_grid_are_refused(tiny_model: Path, norms: dict, scheme: QuantScheme, said: str) -> None:
    detector = load_detector(tiny_model)
    detector.quantize(QuantConfig(weights=scheme))
    before = state_digest(detector.module)
    with pytest.raises(ConfigError, match=rf"the weight of 'model\.0\.conv' {said}"):
        unfold(detector.module, norms)
    assert state_digest(detector.module) == before


def test_norms_of_another_model_are_refused(detector: Detector) -> None:
    with pytest.raises(ModelError, match="none of the 1 batch-norms of the float model"):
        foldable(detector.module, {"model.0.conv": nn.BatchNorm2d(3)})


def test_merged_branches_have_no_norm_of_their_own() -> None:
    block = pytest.importorskip("ultralytics.nn.modules.conv").RepConv(8, 8)
    module = nn.Sequential(block, nn.Conv2d(8, 8, 1)).eval()
    norms = {"0.conv1.conv": block.conv1.bn, "0.conv2.conv": block.conv2.bn, "1": nn.BatchNorm2d(8)}
    block.fuse_convs()
    assert list(foldable(module, norms)) == ["1"]


@pytest.mark.parametrize("learn", [False, True])
def test_what_is_saved_computes_what_was_trained(
    detector: Detector, norms: dict, labelled: Path, tmp_path: Path, learn: bool
) -> None:
    start, kept_norms = copy.deepcopy(detector), copy.deepcopy(norms)
    kept = train(detector, settings(keep_bn=True, learn_amax=learn, lr0=1e-2), tmp_path, labelled, norms=norms)
    last = load_detector(tmp_path / LAST)
    assert kept.rows[-1].weights == state_digest(last.module)
    assert list(last.module.state_dict()) == list(start.module.state_dict())
    assert not close(outputs(last), outputs(start), 1e-2)
    state = TrainingState.load(tmp_path / STATE)
    unfold(start.module, kept_norms)
    state.load_module("ema", start.module)
    scales = {name: layer.norm.weight for name, layer in start.module.named_modules() if hasattr(layer, "norm")}
    assert sum(not torch.equal(value, kept_norms[name].weight) for name, value in scales.items()) > len(scales) / 2
    means = {name: layer.norm.running_mean for name, layer in start.module.named_modules() if hasattr(layer, "norm")}
    assert all(torch.equal(value, kept_norms[name].running_mean) for name, value in means.items())
    assert same(last, start)
    fixed = {name: quantizer.amax for name, quantizer in quantizers(load_detector(tmp_path / LAST).module)}
    assert all(bool((value > 0).all()) for value in fixed.values())
    state.load_module("model", (raw := copy.deepcopy(start)).module)
    assert same(detector, raw)  # what was trained in place is folded too


def test_a_training_that_keeps_norms_resumes_to_the_same_losses(
    tiny_checkpoint: Path, norms: dict, labelled: Path, tmp_path: Path
) -> None:
    config = settings(keep_bn=True, learn_amax=True)
    whole = train(load_detector(tiny_checkpoint), config, tmp_path / "whole", labelled, norms=norms)
    cut = load_detector(tiny_checkpoint)
    with pytest.raises(KeyboardInterrupt):
        train(cut, config, tmp_path / "cut", labelled, norms=norms, progress=Interrupt(2, 2))
    assert list(cut.module.state_dict()) == list(load_detector(tiny_checkpoint).module.state_dict())
    resumed = train(load_detector(tiny_checkpoint), config, tmp_path / "cut", labelled, norms=norms)
    assert losses(resumed.rows) == losses(whole.rows)
    first, second = (TrainingState.load(tmp_path / name / STATE) for name in ("whole", "cut"))
    for group, tensors in first.tensors.items():
        assert all(torch.equal(value, second.tensors[group][name]) for name, value in tensors.items()), group


def test_a_checkpoint_that_was_trained_before_keeps_its_weights(
    detector: Detector, norms: dict, labelled: Path, tmp_path: Path
) -> None:
    train(detector, settings(epochs=1), tmp_path, labelled)
    tuned = load_detector(tmp_path / LAST)
    before = copy.deepcopy(tuned)
    unfold(tuned.module, norms)
    assert same(tuned, before)
