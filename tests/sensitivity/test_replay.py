"""Replay equals the full forward of the switched module, bit for bit, for every item."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig
from yoloqat.datasets import calibration_images, load_dataset
from yoloqat.detectors import load_detector
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.quant import state_digest
from yoloqat.sensitivity.edges import switched
from yoloqat.sensitivity.items import OTHER
from yoloqat.sensitivity.scanner import Scanner
from yoloqat.sensitivity.settings import ScanConfig

SCANS = [
    {},
    {"mode": "one-at-a-time"},
    {"mode": "one-at-a-time", "bits": 3},
    {"bits": 4},
    {"bits": 12, "granularity": "quantizer"},
    {"granularity": "quantizer"},
    {"granularity": "block"},
    {"granularity": "group", "groups": ("a=model.2,model.9.cv2.*",), "mode": "one-at-a-time"},
]


def full(scanner, images, switches):
    with (
        torch.inference_mode(),
        switched(scanner.detector.module, {edge.name: edge for edge in scanner.edges}, switches),
    ):
        output = scanner.detector.module(images)
        return output if isinstance(output, torch.Tensor) else output[0]


@pytest.mark.parametrize("scan", SCANS, ids=str)
def test_every_item_equals_the_full_forward(make_scanner, scan):
    scanner = make_scanner(**scan)
    before = state_digest(scanner.detector.module)
    images, _ = scanner.images(0)
    for _ in range(2):  # one by one, then together
        found = dict(scanner.replay(images).run(images, list(scanner.switches), memory=1 << 30))
    assert scanner.replay(images).together.checked
    assert set(found) == {None, OTHER, *(item.name for item in scanner.items)}
    for name, output in found.items():
        assert torch.equal(output, full(scanner, images, scanner.base if name is None else scanner.switches[name])), (
            name
        )
    assert state_digest(scanner.detector.module) == before


def test_little_memory_gives_the_same_and_keeps_less(make_scanner):
    scanner = make_scanner()
    images, _ = scanner.images(0)
    replay = scanner.replay(images)
    names = [item.name for item in scanner.items]
    whole = replay.kept_bytes(names)
    bound = whole // 4
    parts = replay._parts(sorted(names, key=lambda name: replay._steps[name].nodes[:1]), bound)
    assert len(parts) > 2
    assert all(len(part) == 1 or replay.kept_bytes(part) <= bound < whole for part in parts)
    tight, wide = (dict(replay.run(images, names, memory=memory)) for memory in (bound, whole))
    assert tight.keys() == wide.keys()
    assert all(torch.equal(tight[name], wide[name]) for name in wide)


def test_what_is_kept_is_what_is_counted(make_scanner):
    """The bytes that are planned are those of the tensors that a base run really leaves in memory."""
    scanner = make_scanner()
    images, _ = scanner.images(0)
    replay = scanner.replay(images)
    names = [item.name for item in scanner.items]
    needed = frozenset().union(*(replay._steps[name].needed for name in names))
    with torch.inference_mode():
        values = replay._base_values(images, needed)
    own = {value.untyped_storage().data_ptr() for value in scanner.detector.module.state_dict().values()}
    own |= {value.untyped_storage().data_ptr() for value in replay._traced.constants.values()}
    storages = {}
    for index in needed:
        leaves = values[index] if isinstance(values[index], tuple | list) else [values[index]]
        storages |= {leaf.untyped_storage().data_ptr(): leaf.untyped_storage().nbytes() for leaf in leaves}
    assert replay.kept_bytes(names) == sum(size for place, size in storages.items() if place not in own)


def test_a_head_branch_recomputes_that_branch_alone(make_scanner):
    shares = make_scanner()
    images, _ = shares.images(0)
    found = shares.replay(images).shares()
    assert found[OTHER] == 1.0
    assert found["model.0.conv"] == 1.0
    assert found["model.9.cv3.1.1.conv"] < 0.02
    assert found["model.9.cv2.0.1.conv"] < found["model.9.cv2.0.0.conv"] < found["model.8.cv1.conv"] < 1
    steps = shares.replay(images)._steps["model.9.cv3.1.1.conv"]
    modules = {shares.replay(images)._traced.nodes[index].module for index in steps.nodes}
    assert not any(
        module.startswith(("model.8", "model.9.cv2", "model.9.cv3.0", "model.9.cv3.1.0")) for module in modules
    )


def test_an_item_without_a_node_is_the_base(make_scanner):
    scanner = make_scanner()
    images, _ = scanner.images(0)
    replay = scanner.replay(images)
    name = scanner.items[0].name
    replay._steps[name] = replay._planned({})
    found = dict(replay.run(images, [name], memory=0))
    assert torch.equal(found[name], found[None])


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["leave-one-out", "one-at-a-time"])
def test_sampled_items_of_yolov8n_equal_the_full_forward(real_dir, tmp_path, mode):
    detector = load_detector(real_dir / "weights" / "yolov8n.pt")
    run = Run(tmp_path, torch.device("cpu"), 1)
    Ptq(
        detector,
        calibration_images(real_dir / "coco" / "coco_val.yaml", 2),
        quant=QuantConfig(),
        calibration=CalibrationConfig(images=2),
        imgsz=160,
        batch=2,
        run=run,
    ).apply(MethodSpec("max"))
    dataset = load_dataset(Path(real_dir / "coco" / "coco_val.yaml"))
    scanner = Scanner(
        detector,
        dataset,
        config=EvalConfig(imgsz=160, batch=2),
        scan=ScanConfig(mode=mode),
        device=torch.device("cpu"),
    )
    images, _ = scanner.images(0)
    names = [item.name for item in scanner.items][::8]
    runs = [scanner.replay(images).run(images, names, memory=1 << 30) for _ in range(2)]  # one by one, then together
    for name, output in itertools.chain(*runs):
        assert torch.equal(output, full(scanner, images, scanner.base if name is None else scanner.switches[name])), (
            name
        )
