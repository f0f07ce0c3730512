"""Descriptions that say what none may are refused in one line that names it; those of all families pass."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml as yaml_files
from small_anchor import YOLOV5, YOLOV7, architecture_of
from tiny_detector import ARCHITECTURE
from torch import nn

from yoloqat.detectors.anchor.kinds import VOCABULARY as ANCHOR_VOCABULARY
from yoloqat.detectors.architecture import ACTIVATIONS, activation_text, checked
from yoloqat.detectors.bounds import MAX_WEIGHTS
from yoloqat.detectors.ultralytics import build
from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.detectors.ultralytics_layers import HEADS, VOCABULARY, module_class
from yoloqat.errors import ModelError

MODELS = Path(str(ultralytics_module("cfg").__file__)).parent / "models"
TASK = {head: task for task, heads in HEADS.items() for head in heads}
SHIPPED = sorted(
    (path, TASK[description["head"][-1][2]])
    for path in MODELS.rglob("*.yaml")
    if (description := yaml_files.safe_load(path.read_text()))["head"][-1][2] in TASK
)


class Text(str):
    """A text that could do more than one."""


def changed(**changes: Any) -> dict[str, Any]:
    """Return the small detector's architecture with other entries of its description."""
    return {**ARCHITECTURE, "yaml": copy.deepcopy(ARCHITECTURE["yaml"]) | changes}


def entry(*parts: Any) -> dict[str, Any]:
    """Return the architecture with another third layer."""
    made = changed()
    made["yaml"]["backbone"][2] = list(parts)
    return made


def deep(levels: int) -> list[Any]:
    made: list[Any] = [1]
    for _ in range(levels):
        made = [made]
    return made


@pytest.mark.parametrize(("path", "task"), SHIPPED, ids=[path.stem for path, _ in SHIPPED])
def test_what_ultralytics_ships_for_these_tasks_passes(path: Path, task: str) -> None:
    description = yaml_files.safe_load(path.read_text())
    description["scale"] = next(iter(description.get("scales", {"": 0})))
    described = {"task": task, "yaml": description, "channels": 3, "classes": 80}
    made = checked(described, VOCABULARY)
    assert [made["yaml"][part] for part in ("backbone", "head")] == [description[part] for part in ("backbone", "head")]
    for key in ("scales", "scale", "nc", "activation", "reg_max", "end2end", "kpt_shape"):
        assert made["yaml"].get(key) == description.get(key), key
    assert checked(made, VOCABULARY) == made


def test_they_are_of_all_families() -> None:
    assert {path.parent.name for path, _ in SHIPPED} == {"v3", "v5", "v6", "v8", "v9", "v10", "11", "12", "26"}
    assert {task for _, task in SHIPPED} == {"detect", "segment", "pose", "obb"}


@pytest.mark.parametrize("yaml", [YOLOV5, YOLOV7], ids=["yolov5", "yolov7"])
def test_those_of_yolov5_and_yolov7_pass(yaml: dict[str, Any]) -> None:
    made = checked(architecture_of(yaml), ANCHOR_VOCABULARY)
    assert made == architecture_of(yaml)
    assert checked(made, ANCHOR_VOCABULARY) == made


def test_what_is_returned_shares_nothing_with_what_was_given() -> None:
    given = changed(author="unknown keys are left out")
    made = checked(given, VOCABULARY)
    made["yaml"]["backbone"][2][3].append(True)
    assert given["yaml"]["backbone"][2] == ARCHITECTURE["yaml"]["backbone"][2]
    assert "author" not in made["yaml"]


def test_every_layer_of_the_vocabulary_exists() -> None:
    torch_names = {name.removeprefix("nn.") for name in VOCABULARY.layers if name.startswith("nn.")}
    assert all(module_class(f"torch.nn.modules.any.{name}") is getattr(nn, name) for name in torch_names)
    own = VOCABULARY.layers - {f"nn.{name}" for name in torch_names} | set(TASK)
    for name in own - {"Silence"}:
        assert module_class(f"ultralytics.nn.modules.any.{name}").__name__ == name
        assert hasattr(ultralytics_module("nn.tasks"), name), name
    assert module_class("ultralytics.nn.modules.block.Silence") is nn.Identity


@pytest.mark.parametrize(
    "kind",
    [
        "ultralytics.nn.modules.block.TorchVision",
        "ultralytics.nn.tasks.Ensemble",
        "ultralytics.nn.text_model.CLIP",
        "ultralytics.nn.modules.block.torch",
        "torch.nn.modules.module.Module",
        "torch.nn.functional",
        "os.system",
        "Conv",
        "",
    ],
)
def test_no_other_class_is_made(kind: str) -> None:
    assert module_class(kind) is None


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("nn.SiLU()", "torch.nn.SiLU()"),
        (" torch.nn.ReLU( ) ", "torch.nn.ReLU()"),
        ("nn.LeakyReLU(0.1)", "torch.nn.LeakyReLU(0.1)"),
        ("nn.LeakyReLU(negative_slope=1e-1, inplace=True)", "torch.nn.LeakyReLU(negative_slope=0.1, inplace=True)"),
        ("nn.GELU('tanh')", "torch.nn.GELU('tanh')"),
        ("nn.Hardtanh(-1, 1)", "torch.nn.Hardtanh(-1, 1)"),
    ],
)
def test_activations_are_told_in_one_form(text: str, canonical: str) -> None:
    assert activation_text(text) == canonical
    assert activation_text(canonical) == canonical


def test_every_activation_is_one() -> None:
    assert all(activation_text(f"nn.{name}()") == f"torch.nn.{name}()" for name in ACTIVATIONS)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch owned') or torch.nn.SiLU()",
        "torch.nn.SiLU() if __import__('os').system('true') else nn.ReLU()",
        "nn.SiLU(inplace=__import__('os').system('true'))",
        "nn.SiLU(*[__import__('os')])",
        "nn.SiLU(**{'inplace': True})",
        "nn.SiLU().__class__()",
        "nn.modules.SiLU()",
        "nn.Module()",
        "nn.Linear(10, 10)",
        "torch.load('weights.pt')",
        "torch.hub.load('owner/repository', 'model')",
        "torch.torch.nn.SiLU()",
        "nn.__getattr__('SiLU')()",
        "(nn.SiLU)()()",
        "lambda: nn.SiLU()",
        "nn.SiLU",
        "nn.SiLU();nn.SiLU()",
        "nn.SiLU(\n)\nimport os",
        "nn.ReLU(0x1for x in y)",
        "nn.PReLU(10**12)",
        "nn.PReLU(1000000000000)",
        "nn.GELU('\\d')",
        "nn.GELU('other')",
        "nn.LeakyReLU(1e999)",
        "nn.SiLU(\x00)",
        "nn.SiLU(\ud800)",
        "(" * 190,
        "nn.SiLU(" + " " * 5000 + ")",
        "",
        7,
        None,
        ["nn.SiLU()"],
        Text("nn.SiLU()"),
        nn.SiLU(),
    ],
)
def test_any_other_activation_is_refused(text: Any) -> None:
    with pytest.raises(ModelError, match=r"the activation is .*; expected nn.NAME\(\) with plain numbers") as caught:
        activation_text(text)
    assert "\n" not in str(caught.value)
    if text is not None:
        with pytest.raises(ModelError, match="the activation is"):
            build(changed(activation=text))


HOSTILE = [
    (entry(-1, 1, "parse_model", []), "layer 2 is 'parse_model', which is not supported"),
    (entry(-1, 1, "torch_load", ["weights.pt"]), "layer 2 is 'torch_load'"),
    (entry(-1, 1, "load_checkpoint", ["https://example.org/a.pt"]), "layer 2 is 'load_checkpoint'"),
    (entry(-1, 1, "TorchVision", [32, "resnet18", "DEFAULT"]), "layer 2 is 'TorchVision'"),
    (entry(-1, 1, "DetectionModel", ["yolo26n.yaml"]), "layer 2 is 'DetectionModel'"),
    (entry(-1, 1, "Own", []), "layer 2 is 'Own'"),
    (entry(-1, 1, "nn.Module", []), "layer 2 is 'nn.Module'"),
    (entry(-1, 1, "nn.modules", []), "layer 2 is 'nn.modules'"),
    (entry(-1, 1, "nn.functional.relu", []), "layer 2 is 'nn.functional.relu'"),
    (entry(-1, 1, "torchvision.ops.nms", []), "layer 2 is 'torchvision.ops.nms'"),
    (entry(-1, 1, "torchvision.ops.misc.torch.load", ["a.pt"]), "layer 2 is 'torchvision.ops.misc.torch.load'"),
    (entry(-1, 1, "__builtins__", []), "layer 2 is '__builtins__'"),
    (entry(-1, 1, Text("Conv"), [32]), "layer 2 is a Text"),
    (entry(-1, 1, ["Conv"], [32]), "layer 2 is a list"),
    (entry(-1, 1, None, [32]), "layer 2 is None"),
    (entry(-1, 1, "Detect", ["nc"]), "layer 2 is 'Detect', which is not supported there"),
    (entry(-1, 1, "Conv", ["__import__('os').system('true')"]), r"layer 2 \(Conv\) has the argument"),
    (entry(-1, 1, "Conv", ["d"]), "the argument 'd'"),
    (entry(-1, 1, "Conv", ["ast"]), "the argument 'ast'"),
    (entry(-1, 1, "Conv", [32, "globals"]), "the argument 'globals'"),
    (entry(-1, 1, "Conv", ["[" * 150]), "has the argument"),
    (entry(-1, 1, "Conv", ["https://example.org"]), "the argument 'https://example.org'"),
    (entry(-1, 1, "Conv", [{"a": 1}]), "the argument a dict"),
    (entry(-1, 1, "Conv", [nn.SiLU()]), "the argument a SiLU"),
    (entry(-1, 1, "Conv", [Text("nc")]), "the argument a Text"),
    (entry(-1, 1, "Conv", [10**9, 3]), r"layer 2 \(Conv\) is 1000000000; expected a number of -8192 to 8192"),
    (entry(-1, 1, "Conv", ["1000000000", 3]), r"layer 2 \(Conv\) is 1000000000"),
    (entry(-1, 1, "Conv", [32, math.inf]), r"layer 2 \(Conv\) is inf"),
    (entry(-1, 1, "Conv", [math.nan]), r"layer 2 \(Conv\) is nan"),
    (entry(-1, 1, "Conv", [10**5000]), r"layer 2 \(Conv\) is a number of 16610 bits"),
    (entry(-1, 1, "SPP", [32, deep(5)]), "the argument a list"),
    (entry(-1, 1, "SPP", [32, [5] * 1000]), "is a list; expected a list of at most 64 entries"),
    (entry(-1, 10**9, "Conv", [32]), r"the repeats of layer 2 \(Conv\) is 1000000000"),
    (entry(-1, 0, "Conv", [32]), r"the repeats of layer 2 \(Conv\) is 0"),
    (entry(-1, True, "Conv", [32]), r"the repeats of layer 2 \(Conv\) is True"),
    (entry(-1, "1", "Conv", [32]), r"the repeats of layer 2 \(Conv\) is '1'"),
    (entry(5, 1, "Conv", [32]), r"layer 2 \(Conv\) reads the layer 5"),
    (entry(-9, 1, "Conv", [32]), r"layer 2 \(Conv\) reads the layer -9"),
    (entry("-1", 1, "Conv", [32]), r"layer 2 \(Conv\) reads the layer '-1'"),
    (entry([], 1, "Concat", [1]), r"layer 2 \(Concat\) reads no layer"),
    (entry([[-1]], 1, "Concat", [1]), r"layer 2 \(Concat\) reads the layer a list"),
    (entry(-1, 1, "Conv"), "layer 2 has 3 parts"),
    (entry(-1, 1, "Conv", "abc"), r"layer 2 \(Conv\) is 'abc'; expected a list"),
    (changed(head="weights.yaml"), "'head' is 'weights.yaml'; expected a list"),
    (changed(head=[]), "there are 6 layers, 0 of them in 'head'"),
    (changed(head=[[-1, 1, "Segment", ["nc", 32, 256]]]), "layer 6 is 'Segment'"),
    (changed(backbone=[[-1, 1, "Conv", [16, 3, 2]]] * 301), "'backbone' is a list; expected a list of at most 300"),
    (changed(backbone={"a": 1}), "'backbone' is a dict"),
    (changed(nc=10**9), "'nc' is 1000000000"),
    (changed(nc="80"), "'nc' is '80'"),
    (changed(reg_max=10**6), "'reg_max' is 1000000"),
    (changed(end2end="True"), "'end2end' is 'True'"),
    (changed(inplace=[]), "'inplace' is a list"),
    (changed(channels=10**6), "'channels' is 1000000"),
    (changed(scales="s"), "'scales' is 's'"),
    (changed(scales={}), "'scales' is a dict"),
    (changed(scales={"n": [1, 1]}), "an entry of 'scales' has 2 parts"),
    (changed(scales={"n": [1e9, 1, 1024]}), "a factor of 'scales' is 1000000000.0"),
    (changed(scales={"n": [1, math.inf, 1024]}), "a factor of 'scales' is inf"),
    (changed(scales={"n": [1, 1, "x"]}), "a limit of 'scales' is 'x'"),
    (changed(scales={1: [1, 1, 1024]}), "a name in 'scales' is 1"),
    (changed(scales={"n": [1, 1, 1024]}, scale="x"), "'scale' is 'x'"),
    (changed(scale=["n"]), "'scale' is a list"),
    (changed(depth_multiple=1e12), "'depth_multiple' is 1000000000000.0"),
    (changed(width_multiple="1"), "'width_multiple' is '1'"),
    (changed(kpt_shape="17"), "'kpt_shape' is '17'"),
    (changed(kpt_shape=[10**9, 3]), "a part of 'kpt_shape' is 1000000000"),
    (changed(anchors=[[1e9]]), "a size of 'anchors' is 1000000000.0"),
    (changed(yaml_file=["a"]), "'yaml_file' is a list"),
    (changed(yaml_file="a" * 5000), "'yaml_file' is 'aaa"),
    (
        {**ARCHITECTURE, "yaml": "yolo26n.yaml"},
        "the architecture description is 'yolo26n.yaml'; .* not the name of a file",
    ),
    (
        {**ARCHITECTURE, "yaml": "https://example.org/a.yaml"},
        "the architecture description is 'https://example.org/a.yaml'",
    ),
    ({**ARCHITECTURE, "yaml": None}, "the architecture description is None"),
    ({**ARCHITECTURE, "task": "classify"}, "the task is 'classify'"),
    ({**ARCHITECTURE, "task": "__class__"}, "the task is '__class__'"),
    ({**ARCHITECTURE, "task": ["detect"]}, "the task is a list"),
    ({**ARCHITECTURE, "channels": 10**9}, "the number of channels is 1000000000"),
    ({**ARCHITECTURE, "channels": "3"}, "the number of channels is '3'"),
    ({**ARCHITECTURE, "classes": 0}, "the number of classes is 0"),
    ({**ARCHITECTURE, "classes": 2.0}, "the number of classes is 2.0"),
    ({"task": "detect"}, "the architecture lacks 'yaml'"),
    ("yolo26n.yaml", "the architecture is 'yolo26n.yaml'"),
    ([], "the architecture is a list"),
]


@pytest.mark.parametrize(("architecture", "told"), HOSTILE, ids=[told[:40] for _, told in HOSTILE])
def test_what_none_may_say_is_refused(architecture: Any, told: str) -> None:
    with pytest.raises(ModelError, match=told) as caught:
        build(architecture)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("architecture", "told"),
    [
        (entry(-1, 1, "Conv", [8192, 101]), f"there are layers of 2676711126 weights; expected at most {MAX_WEIGHTS}"),
        (
            entry(-1, 1, "nn.Upsample", [None, 512, "nearest"]),
            "a layer returns 1x32x32768x32768 for an image of 256 pixels",
        ),
        (entry(-1, 1, "nn.ZeroPad2d", [8192]), "a layer returns 1x32x16448x16448"),
        (entry(-1, 1, "nn.Upsample", [[8192, 8192], None, "nearest"]), "a layer returns 1x32x8192x8192"),
    ],
)
def test_what_would_fill_the_memory_is_refused_before_it_is_made(architecture: Any, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        build(architecture)
    activation = ultralytics_module("nn.modules.conv").Conv.default_act
    assert not activation._forward_hooks, "all models of the process share it, and a file would hold the hook"


def test_an_activation_is_applied_in_every_layer() -> None:
    module = build(changed(activation="nn.LeakyReLU(0.1)"))
    slopes = {layer.negative_slope for layer in module.modules() if isinstance(layer, nn.LeakyReLU)}
    assert slopes == {0.1}
    assert not any(isinstance(layer, nn.SiLU) for layer in module.modules())


def test_layers_that_resemble_an_unknown_one_are_proposed() -> None:
    with pytest.raises(ModelError, match=re.escape("'C2ff', which is not supported there; expected one of C2f,")):
        build(entry(-1, 1, "C2ff", [32]))
