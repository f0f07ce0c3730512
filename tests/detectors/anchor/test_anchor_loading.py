"""Checkpoints of the original repositories, written here by classes of the same names."""

from __future__ import annotations

import copy
import os
import sys
import zipfile

import pytest
import torch
from small_anchor import ANCHORS, DESCRIPTIONS, NAMES, YOLOV5, YOLOV7, make_model, save_original
from torch import nn

from yoloqat.detectors import load_detector
from yoloqat.detectors.anchor import is_original
from yoloqat.detectors.anchor.fold import fold
from yoloqat.errors import ModelError


@pytest.fixture(scope="module")
def model():
    return make_model(YOLOV5)


def test_a_checkpoint_gives_what_was_saved(family, small_original, picture):
    detector = load_detector(small_original)
    reference = fold(make_model(DESCRIPTIONS[family]).half().float())
    reference.head.anchors = torch.tensor(ANCHORS).float().reshape(reference.head.anchors.shape)
    with torch.inference_mode():
        torch.testing.assert_close(detector.module(picture), reference(picture), rtol=1e-4, atol=1e-5)
    assert (detector.family, detector.imgsz, detector.source.path) == (family, 640, str(small_original))
    assert (detector.info.names, detector.info.stride, detector.info.task) == (dict(enumerate(NAMES)), 16, "detect")
    last = len(detector.module.model) - 1
    assert detector.keep_float == dict.fromkeys((f"model.{last}.m.0", f"model.{last}.m.1"), "gives the predictions")
    assert not [name for name in sys.modules if name == "models" or name.startswith("models.")]


@pytest.mark.parametrize("kind", ["Model", "DetectionModel"])
@pytest.mark.parametrize("legacy", [False, True])
def test_every_way_of_writing_gives_the_same(tmp_path, model, picture, kind, legacy):
    path = save_original(tmp_path / "a.pt", model, YOLOV5, kind=kind, legacy=legacy)
    reference = load_detector(save_original(tmp_path / "b.pt", model, YOLOV5))
    with torch.inference_mode():
        assert torch.equal(load_detector(path).module(picture), reference.module(picture))


def test_the_averaged_model_is_preferred(tmp_path, model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model[0].conv.weight.zero_()
    plain = load_detector(save_original(tmp_path / "a.pt", model, YOLOV5))
    assert plain.module.model[0].conv.weight.any()
    averaged = load_detector(save_original(tmp_path / "a.pt", model, YOLOV5, ema=other))
    assert not averaged.module.model[0].conv.weight.any()


@pytest.mark.parametrize(
    ("options", "expected"), [({"imgsz": 320}, 320), ({"imgsz": [640, 480]}, 640), ({"imgsz": True}, 640), (None, 640)]
)
def test_the_training_size_is_that_of_the_options(tmp_path, model, options, expected):
    assert load_detector(save_original(tmp_path / "a.pt", model, YOLOV5, more={"opt": options})).imgsz == expected


def test_a_model_with_a_stride_of_64_is_of_1280_pixels(tmp_path):
    yaml = copy.deepcopy(YOLOV5)
    yaml["backbone"][5:] = [[-1, 1, "Conv", [128, 3, 2]] for _ in range(3)]
    yaml["head"] = [[[4, 7], 1, "Detect", ["nc", "anchors"]]]
    detector = load_detector(save_original(tmp_path / "a.pt", make_model(yaml), yaml))
    assert (detector.info.stride, detector.imgsz) == (64, 1280)


@pytest.mark.parametrize("names", [{0: "a", 1: "b", 2: "c"}, ("a", "b", "c")])
def test_names_are_numbered(tmp_path, model, names):
    def change(root):
        root.names = names

    path = save_original(tmp_path / "a.pt", model, YOLOV5, change=change)
    assert load_detector(path).info.names == {0: "a", 1: "b", 2: "c"}


class Attack:
    """Makes a file where it is unpickled as code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_checkpoint_does_not_run(tmp_path, model):
    def change(root):
        root.model[0].hook = Attack(tmp_path / "made")

    path = save_original(tmp_path / "a.pt", model, YOLOV5, change=change, more={"optimizer": Attack(tmp_path / "made")})
    assert load_detector(path).family == "yolov5"
    assert not (tmp_path / "made").exists()


def attribute(path, **values):
    def change(root):
        for name, value in values.items():
            setattr(root.get_submodule(path), name, value)

    return change


def child(path, module):
    def change(root):
        parent, _, name = path.rpartition(".")
        setattr(root.get_submodule(parent), name, module)

    return change


def described(**changes):
    def change(root):
        root.yaml = {**copy.deepcopy(root.yaml), **changes}

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            attribute("model.0.conv", stride=(1, 1)),
            r"'model.0.conv' has stride \(1, 1\), its description gives \(2, 2\)",
        ),
        (attribute("model.2.m.0", add=False), "'model.2.m.0' has add False, its description gives True"),
        (attribute("model.0.bn", eps=1e-5), "'model.0.bn' has eps 1e-05, its description gives 0.001"),
        (attribute("model.4.m", kernel_size=3), "'model.4.m' has kernel_size 3, its description gives 5"),
        (attribute("model.6", scale_factor=4.0), "'model.6' has scale_factor 4.0, its description gives 2"),
        (attribute("model.7", d=2), "'model.7' has d 2, its description gives 1"),
        (attribute("model.7", f=[-1, 3]), r"layer 7 reads layers \(6, 3\), its description gives \(6, 4\)"),
        (attribute("model.9", f=[5, 8]), r"layer 9 reads layers \(5, 8\), its description gives \(8, 5\)"),
        (child("model.3.act", nn.ReLU()), "'model.3.act' is a ReLU, its description gives a SiLU"),
        (child("model.3.more", nn.ReLU()), "'model.3.more' is missing from its description"),
        (attribute("model.3", act=None), "'model.3.act' is only in its description"),
        (child("model.3.conv.bias", nn.Parameter(torch.zeros(32))), "'model.3.conv.bias' is missing from its desc"),
        (
            child("model.3.conv.weight", nn.Parameter(torch.zeros(24, 16, 3, 3))),
            r"'model.3.conv.weight' has shape \(24, 16, 3, 3\), its description gives \(32, 16, 3, 3\)",
        ),
        (child("model.10", nn.Identity()), "it has 11 layers, its description gives 10"),
    ],
)
def test_a_changed_model_is_refused(tmp_path, model, change, reason):
    path = save_original(tmp_path / "a.pt", model, YOLOV5, change=change)
    with pytest.raises(ModelError, match=f"'{path}' cannot be rebuilt: {reason}"):
        load_detector(path)


def test_a_fused_model_is_refused(tmp_path, model):
    def fuse(root):
        del root.model[0].bn
        root.model[0].conv.bias = nn.Parameter(torch.zeros(8))

    path = save_original(tmp_path / "a.pt", model, YOLOV5, change=fuse)
    with pytest.raises(ModelError, match=r"'model.0.bn' is only in its description.*not pruned, fused or changed"):
        load_detector(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (attribute("", names=["a"]), "'.*a.pt' has 1 class names and nc 3"),
        (described(nc=None), "'.*a.pt' has 3 class names and nc None"),
        (attribute("", names=3), "metadata 'names' of '.*a.pt' is 3; expected class names numbered from 0"),
        (
            attribute("", names=["a", "b", "\ud800"]),
            "metadata 'names.2.' of '.*a.pt' is '.udcff|.ud800'; expected a name",
        ),
        (attribute("", yaml=[1]), r"the model in '.*a.pt' is not as .* \(TypeError\('a description that is \[1\]'"),
        (attribute("", yaml={"nc": Attack("x")}), "'.*a.pt' has 3 class names and nc None"),
        (
            described(backbone=[[-1, 1, "Own", []]]),
            "layer 0 is 'Own', which is not supported",
        ),
        (attribute("model.9", stride=torch.tensor([8.0, 32.0])), r"the strides of the Detect head are \[8.0, 32.0\]"),
        (attribute("model.9", stride=None), "the anchors of the Detect head cannot be read"),
        (child("model.9.anchors", torch.ones(3)), "the anchors of the Detect head cannot be read"),
    ],
)
def test_an_odd_model_is_refused(tmp_path, model, change, reason):
    path = save_original(tmp_path / "a.pt", model, YOLOV5, kind="DetectionModel", change=change)
    with pytest.raises(ModelError, match=reason) as caught:
        load_detector(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["SegmentationModel", "ClassificationModel"])
def test_other_tasks_are_refused(tmp_path, model, kind):
    path = save_original(tmp_path / "a.pt", model, YOLOV5, kind=kind)
    with pytest.raises(ModelError, match=f"'{path}' holds a models.common.{kind}; expected a models.yolo.Model"):
        load_detector(path)


@pytest.mark.parametrize("entries", [{"model": None}, {"model": {}, "ema": None}])
def test_a_checkpoint_without_a_model_is_refused(tmp_path, model, entries):
    path = save_original(tmp_path / "a.pt", model, YOLOV5, more=lambda root: {"other": root, **entries})
    with pytest.raises(ModelError, match=f"'{path}' holds no YOLOv5 or YOLOv7 model"):
        load_detector(path)


def test_a_damaged_checkpoint_is_told(tmp_path, model):
    path = save_original(tmp_path / "a.pt", model, YOLOV5)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "b.pt", "w") as target:
        for name in source.namelist():
            if not name.endswith("data/0"):
                target.writestr(name, source.read(name))
    with pytest.raises(ModelError, match=r"'.*b.pt' cannot be loaded \(the file is damaged: "):
        load_detector(tmp_path / "b.pt")


def test_what_is_not_original_is_left_to_others(tmp_path, tiny_model, small_original):
    torch.save({"model": "models.yolo.Model"}, tmp_path / "text.pt")
    (tmp_path / "cut.pt").write_bytes(small_original.read_bytes()[:-100])
    (tmp_path / "none.pt").write_bytes(b"none")
    assert is_original(small_original)
    assert not any(is_original(path) for path in (tiny_model, *tmp_path.iterdir()))


@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_torchscript_is_not_run(tmp_path):
    torch.jit.save(torch.jit.trace(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2)), tmp_path / "a.pt")
    assert not is_original(tmp_path / "a.pt")


def test_yolov7_without_training_heads_is_yolov7_too(tmp_path, picture):
    yaml = copy.deepcopy(YOLOV7)
    yaml["head"][-3:] = [[[15, 16], 1, "IDetect", ["nc", "anchors"]]]
    full = make_model(YOLOV7)
    plain = make_model(yaml)
    state = {
        name.replace("model.19", "model.17"): value for name, value in full.state_dict().items() if ".m2." not in name
    }
    plain.load_state_dict({name: value for name, value in state.items() if name in plain.state_dict()})
    detector = load_detector(save_original(tmp_path / "a.pt", plain, yaml))
    whole = load_detector(save_original(tmp_path / "b.pt", full, YOLOV7))
    with torch.inference_mode():
        assert torch.equal(detector.module(picture), whole.module(picture))
