"""Ultralytics checkpoints: loaded without their code, rebuilt, and refused with the reason."""

from __future__ import annotations

import copy
import zipfile

import pytest
import torch
from tiny_detector import ARCHITECTURE, NAMES, save_module
from torch import nn

from yoloqat.config import QuantConfig
from yoloqat.detectors import load_detector, save_checkpoint
from yoloqat.detectors.ultralytics import build, load_ultralytics
from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.errors import ModelError
from yoloqat.provenance import file_sha256
from yoloqat.quant import quantization_disabled, swappable_layers

PREDICTIONS = "gives the predictions"
DISTANCES = "fixed expectation over box distances"


def kept(head: int, *branches: str) -> dict[str, str]:
    last = {f"model.{head}.{branch}.{level}.2": PREDICTIONS for branch in branches for level in range(3)}
    return last | {f"model.{head}.dfl.conv": DISTANCES}


@pytest.mark.parametrize(
    ("name", "layers", "float_layers"),
    [
        ("yolov5n", 76, kept(24, "cv2", "cv3")),
        ("yolov8n", 64, kept(22, "cv2", "cv3")),
        ("yolo11n", 88, kept(23, "cv2", "cv3")),
        (
            "yolov8n-seg",
            77,
            kept(22, "cv2", "cv3", "cv4") | {"model.22.proto.cv3.conv": "gives the mask prototypes"},
        ),
    ],
)
def test_all_but_dfl_and_the_last_convolutions_are_quantized(weights, name, layers, float_layers, picture):
    detector = load_detector(weights(name))
    everything = swappable_layers(detector.module)
    assert len(everything) == layers
    assert detector.keep_float == float_layers
    assert detector.not_rebuildable is None
    task = "segment" if name.endswith("seg") else "detect"
    assert (detector.info.task, detector.architecture["task"], detector.family) == (task, task, "ultralytics")
    with torch.inference_mode():
        before = detector.module(picture)
        kept = set(float_layers) | {name for name in everything if detector.module.get_submodule(name).groups > 1}
        kept -= {f"model.23.cv3.{level}.0.0.conv" for level in range(3)}  # of YOLO11, beside a quantized reader
        assert detector.quantize(QuantConfig()) == [layer for layer in everything if layer not in kept]
        with quantization_disabled(detector.module):
            after = detector.module(picture)
    assert swappable_layers(detector.module) == [layer for layer in everything if layer in kept]
    pairs = zip(*((value if isinstance(value, tuple) else (value,)) for value in (before, after)), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_the_head_is_quantized_when_asked(tiny):
    everything = swappable_layers(tiny.module)
    assert len(tiny.quantize(QuantConfig(quantize_head=True))) == len(everything)
    assert tiny.quantization.layers == tuple(everything)


def test_what_is_known_of_a_detector(tiny, tiny_model):
    assert (tiny.info.names, tiny.info.stride, tiny.info.end2end, tiny.imgsz) == (NAMES, 16, False, 64)
    assert (tiny.source.path, tiny.source.sha256) == (str(tiny_model), file_sha256(tiny_model))
    assert tiny.quantization is None
    assert not tiny.module.training
    assert not any(parameter.requires_grad for parameter in tiny.module.parameters())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in tiny.module.modules())


def test_outputs_are_those_of_ultralytics_before_and_after_folding(tiny, tiny_module, picture):
    module = copy.deepcopy(tiny_module).eval()
    with torch.inference_mode():
        plain = module(picture)[0]
        fused = module.fuse(verbose=False)(picture)[0]
        found = tiny.module(picture)
    assert torch.equal(found, fused)
    assert torch.allclose(found, plain, rtol=1e-3, atol=1e-3)


def test_loading_leaves_the_random_numbers_alone(weights):
    path, state = weights("yolov8n"), torch.random.get_rng_state()
    load_detector(path)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_loading_leaves_the_file_alone(tiny_model):
    before = file_sha256(tiny_model)
    load_detector(tiny_model)
    assert file_sha256(tiny_model) == before


def test_the_averaged_weights_are_preferred(tmp_path, tiny_module, tiny):
    model = copy.deepcopy(tiny_module)
    for parameter in model.parameters():
        parameter.data.zero_()
    torch.save({"model": model.half(), "ema": copy.deepcopy(tiny_module).half()}, tmp_path / "m.pt")
    found = load_detector(tmp_path / "m.pt").module.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in tiny.module.state_dict().items())


def test_names_in_a_list_are_numbered(tmp_path, tiny_module):
    model = copy.deepcopy(tiny_module)
    model.names = list(NAMES.values())
    assert load_detector(save_module(model, tmp_path / "m.pt")).info.names == NAMES


@pytest.mark.parametrize("arguments", [None, {}, {"imgsz": [640, 480]}])
def test_an_unknown_training_size_is_640(tmp_path, tiny_module, arguments):
    model = copy.deepcopy(tiny_module)
    model.args = arguments
    assert load_detector(save_module(model, tmp_path / "m.pt")).imgsz == 640


@pytest.mark.parametrize("name", ["yolov5s.pt", "o'neil.pt", " yolov8n .pt", "wéights 1.pt"])
def test_the_name_of_the_file_means_nothing(tmp_path, tiny_model, name):
    # Ultralytics takes yolov5s.pt for yolov5su.pt, drops apostrophes, and downloads what it then does not find
    (tmp_path / name).write_bytes(tiny_model.read_bytes())
    detector = load_detector(tmp_path / name)
    assert detector.source.path == str(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def narrower(model):
    block = model.model[2].m[0]
    channels = block.cv1.conv.out_channels // 2
    block.cv1.conv = nn.Conv2d(block.cv1.conv.in_channels, channels, 3, padding=1, bias=False)
    block.cv1.bn = nn.BatchNorm2d(channels)
    block.cv2.conv = nn.Conv2d(channels, block.cv2.conv.out_channels, 3, padding=1, bias=False)


def with_less(model):
    del model.model[0].bn._buffers["num_batches_tracked"]


def with_more(model):
    model.model[0].bn.register_buffer("more", torch.zeros(1))


def another_activation(model):
    model.model[0].act = nn.ReLU()


def deeper_description(model):
    model.yaml = copy.deepcopy(model.yaml)
    model.yaml["backbone"][2][1] = 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (narrower, r"'model.2.m.0.cv1.conv.weight' has shape \(8, 16, 3, 3\), its .* gives \(16, 16, 3, 3\)"),
        (with_less, "'model.0.bn.num_batches_tracked' is only in its architecture description"),
        (with_more, "'model.0.bn.more' is missing from its architecture description"),
        (another_activation, "its outputs differ from those of its architecture description with the same weights"),
        (deeper_description, "'model.2.cv2.conv.weight' has shape|'model.2.m.1.*' is only in"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_changed_model_runs_but_cannot_be_saved(tmp_path, tiny_module, change, reason, picture):
    model = copy.deepcopy(tiny_module)
    change(model)
    path = save_module(model, tmp_path / "changed.pt")
    detector = load_detector(path)
    model = model.float().eval()
    with torch.inference_mode():
        assert torch.equal(detector.module(picture), model.fuse(verbose=False)(picture)[0])
    detector.quantize(QuantConfig())
    with pytest.raises(ModelError, match=f"'{path}' cannot be rebuilt: .*{reason}"):
        save_checkpoint(detector, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_model_without_batch_norms_is_told(tmp_path, tiny_module):
    model = copy.deepcopy(tiny_module)
    model.model[0].bn = nn.Identity()
    with pytest.raises(ModelError, match=r"the batch-norms of this DetectionModel cannot be folded .*Identity"):
        load_detector(save_module(model, tmp_path / "m.pt"))


def test_other_tasks_are_refused(weights):
    expected = "yolov8n-cls.pt' is a ClassificationModel; expected one of DetectionModel, SegmentationModel, PoseModel, OBBModel"
    with pytest.raises(ModelError, match=expected):
        load_detector(weights("yolov8n-cls"))


def test_poses_are_loaded_with_all_their_channels(weights):
    detector = load_detector(weights("yolov8n-pose"))
    assert detector.info.task == "pose"
    with torch.inference_mode():
        assert detector.module(torch.zeros(1, 3, 64, 64)).shape == (1, 4 + 1 + 17 * 3, 84)


class Own:
    """Something that only its owner can unpickle."""


def torch_file(path, value):
    torch.save(value, path)


def cut_file(path, tiny_model):
    path.write_bytes(tiny_model.read_bytes()[:-200])


def damaged_file(path, tiny_model):
    with zipfile.ZipFile(tiny_model) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, b"\x80\x02garbage" if name.endswith("data.pkl") else source.read(name))


def other_zip(path, tiny_model):
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("word/document.xml", "<xml/>")


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path, _: path.write_text("no weights"), "is not a PyTorch checkpoint"),
        (lambda path, _: path.write_bytes(b""), "is not a PyTorch checkpoint"),
        (cut_file, "is not a PyTorch checkpoint"),
        (other_zip, r"cannot be loaded \(the file is damaged\)"),
        (damaged_file, r"cannot be loaded \(the file is damaged\)"),
        (lambda path, _: torch_file(path, {"model": Own()}), r"cannot be loaded \(it holds .*Own"),
        (lambda path, _: torch_file(path, {"weights": torch.ones(1)}), "holds no Ultralytics model"),
        (lambda path, _: torch_file(path, {"model": {"a": torch.ones(1)}, "ema": None}), "holds no Ultralytics model"),
        (lambda path, _: torch_file(path, torch.ones(1)), "holds no Ultralytics model"),
        (lambda path, _: torch_file(path, {"model": nn.Conv2d(1, 1, 1)}), "holds no Ultralytics model"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_told(tmp_path, tiny_model, write, reason):
    path = tmp_path / "model.pt"
    write(path, tiny_model)
    with pytest.raises(ModelError, match=f"'{path}' {reason}") as caught:
        load_detector(path)
    assert "\n" not in str(caught.value)
    assert "/yoloqat-" not in str(caught.value), "the temporary link is nothing to the user"


def test_an_architecture_that_cannot_be_built_is_told():
    yaml = copy.deepcopy(ARCHITECTURE["yaml"]) | {"yaml_file": "own.yaml"}
    yaml["head"][1][3] = [7]  # concatenates along a seventh dimension
    with pytest.raises(ModelError, match=r"the architecture of 'own.yaml' cannot be built \(IndexError"):
        build({**ARCHITECTURE, "yaml": yaml})


def test_a_description_that_cannot_be_built_leaves_nothing_behind():
    block = ultralytics_module("nn.modules.conv").Conv
    before = block.default_act
    yaml = copy.deepcopy(ARCHITECTURE["yaml"]) | {"activation": "nn.ReLU()"}
    yaml["head"][1][3] = [7]
    with pytest.raises(ModelError, match="cannot be built"):
        build({**ARCHITECTURE, "yaml": yaml})
    assert block.default_act is before


def test_building_does_not_change_the_description():
    before = copy.deepcopy(ARCHITECTURE)
    build(before)
    assert before["classes"] == ARCHITECTURE["classes"]
    assert before["yaml"]["backbone"] == ARCHITECTURE["yaml"]["backbone"]


@pytest.mark.real
def test_the_original_yolov5_is_recognised(real_dir):
    path = real_dir / "weights" / "yolov5s.pt"
    with pytest.raises(
        ModelError, match=r"yolov5s.pt' cannot be loaded \(it holds the original YOLOv5/YOLOv7 classes\)"
    ):
        load_ultralytics(path)


@pytest.mark.real
def test_the_official_yolov8n_is_ultralytics_own(real_dir):
    path = real_dir / "weights" / "yolov8n.pt"
    checkpoint, _ = ultralytics_module("nn.tasks").torch_safe_load(path, safe_only=True)
    reference = checkpoint["model"].float().fuse(verbose=False).eval()
    detector = load_detector(path)
    assert detector.not_rebuildable is None
    assert (detector.info.classes, detector.info.names[0], detector.info.stride) == (80, "person", 32)
    images = torch.rand(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = reference(images)[0]
        assert torch.equal(detector.module(images), expected)
        assert len(detector.quantize(QuantConfig())) == 57
        with quantization_disabled(detector.module):
            assert torch.equal(detector.module(images), expected)
        assert not torch.equal(detector.module(images), expected)


@pytest.mark.real
@pytest.mark.parametrize("name", ["yolov8s", "yolov8n-seg", "yolo11n-seg"])
def test_the_official_models_can_be_rebuilt(real_dir, name):
    detector = load_detector(real_dir / "weights" / f"{name}.pt")
    assert detector.not_rebuildable is None
    assert detector.info.classes == 80
