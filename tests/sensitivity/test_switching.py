from __future__ import annotations

import torch

from yoloqat.quant import state_digest
from yoloqat.sensitivity.switching import OFF, Switch, switched, switched_quantizer


def test_a_switched_quantizer_leaves_the_given_one_alone(make_scanner):
    quantizer = make_scanner().edges[0].quantizer
    x = torch.linspace(-1, 1, 101)
    before = quantizer(x)
    assert torch.equal(switched_quantizer(quantizer, OFF)(x), x)
    narrow = switched_quantizer(quantizer, Switch(3))(x)
    assert len(narrow.unique()) <= 8 < len(before.unique())
    assert torch.equal(quantizer(x), before)


def test_switching_ends_with_its_context_and_spares_other_users(make_scanner):
    scanner = make_scanner()
    edges = {edge.name: edge for edge in scanner.edges}
    module = scanner.detector.module
    shared = [edge for edge in scanner.edges if sum(other.quantizer is edge.quantizer for other in scanner.edges) > 1]
    before = state_digest(module)
    for edge in (shared[0], shared[-1]):  # the owner and one that holds a reference
        with switched(module, edges, {edge.name: OFF}):
            holder = module.get_submodule(edge.holder)
            assert getattr(holder, edge.attributes[0])._disabled
            for other in shared:
                if other.name != edge.name:
                    assert not getattr(module.get_submodule(other.holder), other.attributes[0])._disabled
            assert state_digest(module) != before
        assert state_digest(module) == before
        assert getattr(holder, edge.attributes[0]) is edge.quantizer


def test_the_hash_sees_ranges_schemes_and_switches(make_scanner):
    module, edges = make_scanner().detector.module, make_scanner().edges
    quantizer = edges[3].quantizer
    hashes = {state_digest(module)}
    amax = quantizer.amax
    quantizer.amax = amax * 1.001
    hashes.add(state_digest(module))
    quantizer.amax = amax
    quantizer.disable_quant()
    hashes.add(state_digest(module))
    quantizer.enable_quant()
    quantizer.scheme = switched_quantizer(quantizer, Switch(7)).scheme
    hashes.add(state_digest(module))
    assert len(hashes) == 4
