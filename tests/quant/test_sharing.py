"""One quantizer at several locations: registered once, shared by copies, told apart when asked."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from yoloqat.config import QuantConfig
from yoloqat.errors import ModelError
from yoloqat.quant import (
    activation_quantizers,
    collecting,
    dynamic_amax,
    locate_quantizer,
    quantization_disabled,
    quantizers,
    remove_quantizers,
    share_quantizers,
    shared_locations,
    swap_layers,
    swappable_layers,
    unshared,
)

FIRST, SECOND, THIRD = "0.0._input_quantizer", "0.2._input_quantizer", "1.1._input_quantizer"


@pytest.fixture
def shared(net: nn.Sequential) -> nn.Sequential:
    swap_layers(net, swappable_layers(net), QuantConfig())
    share_quantizers(net, {SECOND: FIRST})
    return net


def test_the_quantizer_is_met_once(shared):
    assert shared[0][2]._input_quantizer is shared[0][0]._input_quantizer
    assert [name for name, _ in activation_quantizers(shared)] == [FIRST, THIRD]
    assert len(list(quantizers(shared))) == 5
    shared[0][0]._input_quantizer.amax = 2.0
    assert [name for name in shared.state_dict() if name.endswith("_amax")] == ["0.0._input_quantizer._amax"]
    assert shared_locations(shared) == {SECOND: FIRST}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_share_their_own(shared, copied):
    twin = copied(shared)
    assert twin[0][2]._input_quantizer is twin[0][0]._input_quantizer
    assert twin[0][0]._input_quantizer is not shared[0][0]._input_quantizer
    assert shared_locations(twin) == {SECOND: FIRST}


def test_a_move_reaches_every_location(shared):
    shared[0][0]._input_quantizer.amax = 2.0
    shared.to(torch.float64)
    assert shared[0][2]._input_quantizer.amax.dtype == torch.float64


def test_sites_told_apart_for_a_while_compute_the_same(shared, image):
    shared[0][0]._input_quantizer.amax = 2.0
    shared[1][1]._input_quantizer.amax = 3.0
    before = shared(image)
    with unshared(shared):
        assert [name for name, _ in activation_quantizers(shared)] == [FIRST, SECOND, THIRD]
        assert torch.equal(shared(image), before)
        shared[0][2]._input_quantizer.disable()
        assert not torch.equal(shared(image), before)
    assert torch.equal(shared(image), before)
    assert shared_locations(shared) == {SECOND: FIRST}


def test_contexts_treat_the_shared_one_once(shared, image):
    quantizer = shared[0][0]._input_quantizer
    quantizer.amax = 2.0
    with quantization_disabled(shared):
        assert quantizer._disabled
    with dynamic_amax(shared):
        assert quantizer.amax is None
    assert (quantizer._disabled, float(quantizer.amax)) == (False, 2.0)
    with collecting(shared):
        shared(image)
    assert quantizer._seen is None
    counts = quantizer._calibrator.histogram().counts
    assert counts.sum() == image.numel() + 2 * 4 * 4 * 4  # the image and what the second location reads


def test_a_tensor_that_two_sites_read_counts_once_in_each_forward(image):
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.left(x) + self.right(x)

    fork = Fork().eval()
    swap_layers(fork, swappable_layers(fork), QuantConfig())
    share_quantizers(fork, {"right._input_quantizer": "left._input_quantizer"})
    with collecting(fork):
        fork(image)
        fork(image)
    assert fork.left._input_quantizer._calibrator.histogram().counts.sum() == 2 * image.numel()


def test_a_dropped_site_is_gone(shared):
    remove_quantizers(shared, [THIRD])
    assert [name for name, _ in activation_quantizers(shared)] == [FIRST]


@pytest.mark.parametrize("location", ["0.9._input_quantizer", "0.0._residual_quantizer", "0.0.weight"])
def test_a_site_that_is_not_there_is_named(shared, location):
    with pytest.raises(ModelError, match=f"the model has no quantizer '{location}'"):
        locate_quantizer(shared, location)
