"""Where quantizers sit in every family, as text files that people read.

Written anew with ``pytest tests/detectors/test_golden_placement.py --regenerate-golden``; read the difference before committing.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from yoloqat.config import QuantConfig
from yoloqat.detectors import Detector, Source
from yoloqat.detectors.ultralytics import build, detector_from_module
from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.quant import activation_quantizers, quantization_disabled, shared_locations
from yoloqat.quant.graph import plan_text

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "placement"
FAMILIES = {
    "v3tinyu": "v3/yolov3-tiny.yaml",
    "v5nu": "v5/yolov5.yaml",
    "v6n": "v6/yolov6.yaml",
    "v8n": "v8/yolov8.yaml",
    "v9t": "v9/yolov9t.yaml",
    "v10n": "v10/yolov10n.yaml",
    "v11n": "11/yolo11.yaml",
    "v12n": "12/yolo12.yaml",
    "v26n": "26/yolo26.yaml",
}


def detector(family: str) -> Detector:
    """Return a detector of the family's smallest size with fresh weights."""
    models = Path(str(ultralytics_module("cfg").__file__)).parent / "models"
    description = yaml.safe_load((models / FAMILIES[family]).read_text(encoding="utf-8")) | {"scale": "n"}
    architecture = {"task": "detect", "yaml": description, "channels": 3, "classes": 80}
    names = {index: str(index) for index in range(80)}
    return detector_from_module(build(architecture), architecture, Source("m.pt", "0" * 64), names=names, imgsz=640)


@pytest.mark.parametrize("family", FAMILIES)
def test_placement_is_as_it_was_read(family: str, request: pytest.FixtureRequest) -> None:
    model = detector(family)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = model.module(image)
        model.quantize(QuantConfig())
        with quantization_disabled(model.module):  # our blocks compute what the family's do
            assert torch.equal(model.module(image), before)
    plan = model.quantization.placement
    assert plan.unreached == ()
    own, shared = {name for name, _ in activation_quantizers(model.module)}, shared_locations(model.module)
    assert own == {group.owner for group in plan.groups}
    assert shared == plan.aliases
    path = GOLDEN / f"{family}.txt"
    if request.config.getoption("--regenerate-golden"):
        path.write_text(plan_text(plan), encoding="utf-8")
    assert plan_text(plan) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("family", ["v10n", "v26n"])
def test_heads_of_one_box_per_object_keep_that_branch_alone(family: str) -> None:
    model = detector(family)
    head = model.module.model[-1]
    assert model.info.end2end
    assert (head.cv2, head.cv3) == (None, None)
    with torch.inference_mode():
        assert model.module(torch.zeros(1, 3, 128, 128)).shape == (1, 300, 6)
