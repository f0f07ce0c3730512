"""Pickled models are read as data: what they name is not called, what they hang on modules is left off."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_detector import save_module
from torch import nn

from yoloqat.detectors import load_detector
from yoloqat.detectors.inert import Held, Inert
from yoloqat.detectors.recorded import MAX_DEPTH, MAX_VALUES, Recorded
from yoloqat.detectors.ultralytics_file import known_class
from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.errors import ModelError

Change = Callable[[Any, Path], None]


class Call:
    """Is a call of a function in a pickle."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def touch(module: Any, inputs: Any, output: Any = None) -> None:
    """A hook that pickles by its name."""
    raise AssertionError("a hook of a checkpoint ran")


def method(name: str, value: Callable[[Path], Any]) -> Change:
    def change(model: Any, path: Path) -> None:
        model.model[0].__dict__[name] = value(path)

    return change


def hooks(model: Any, path: Path) -> None:
    model.model[0].register_forward_hook(touch)
    model.model[1].conv.register_forward_pre_hook(touch)
    model.model[2].register_state_dict_pre_hook(touch)
    model.model[3]._compiled_call_impl = touch
    model.register_forward_hook(touch)


def somewhere(model: Any, path: Path) -> None:
    model.optimizer = Call(os.mkdir, str(path))


CHANGES: dict[str, Change] = {
    "forward is another function": method("forward", lambda path: partial(os.mkdir, str(path))),
    "forward is a class": method("forward", lambda path: ultralytics_module("nn.tasks").DetectionModel),
    "forward is a text": method("forward", str),
    "a call in an attribute": method("more", lambda path: Call(os.mkdir, str(path))),
    "a call of a class that is known": method(
        "more", lambda path: Call(ultralytics_module("nn.modules").TorchVision, "resnet18", "DEFAULT")
    ),
    "a model of a file": method(
        "more", lambda path: Call(ultralytics_module("nn.tasks").DetectionModel, str(path.parent / "own.yaml"))
    ),
    "hooks": hooks,
    "a call beside": somewhere,
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_hangs_on_modules_is_left_off(
    name: str, tmp_path: Path, tiny_module: nn.Module, picture: torch.Tensor
) -> None:
    model = copy.deepcopy(tiny_module)
    CHANGES[name](model, tmp_path / "made")
    path = save_module(model, tmp_path / "m.pt")
    detector = load_detector(path)
    assert detector.not_rebuildable is None
    with torch.inference_mode():
        expected = copy.deepcopy(tiny_module).eval().fuse(verbose=False)(picture)[0]
        assert torch.equal(detector.module(picture), expected)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.pt"]


def test_a_recorded_model_that_is_run_itself_has_no_hooks_either(tmp_path: Path, tiny_module: nn.Module) -> None:
    model: Any = copy.deepcopy(tiny_module)
    hooks(model, tmp_path)
    model.model[0].act = nn.ReLU()  # not what its description gives
    detector = load_detector(save_module(model, tmp_path / "m.pt"))
    assert detector.not_rebuildable is not None
    for module in detector.module.modules():
        assert not module._forward_hooks, module
        assert not module._forward_pre_hooks, module
    assert type(detector.module.model[0].act) is nn.ReLU  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda model: setattr(model.model[0], "act", ultralytics_module("nn.tasks").Ensemble()), "Ensemble'"),
        (lambda model: setattr(model.model[0], "act", nn.Flatten()), r"torch\.nn\.modules\.flatten\.Flatten'"),
        (lambda model: setattr(model.model[0], "act", nn.Module()), r"torch\.nn\.modules\.module\.Module'"),
        (lambda model: model.model[0].__dict__["_modules"].update(act=touch), "instead of a module"),
        (lambda model: model.model[0].__dict__["_modules"].update(act=[1]), "'list' instead of a module"),
        (lambda model: model.model[0].__dict__["_parameters"].update(a=[1]), "a list instead of a tensor"),
        (lambda model: model.model[0].__dict__["_modules"].update(forward=nn.ReLU()), "attribute 'forward' already"),
        (lambda model: model.model[0].__dict__["_modules"].update(again=model.model[0]), "a module that occurs twice"),
        (lambda model: setattr(model, "yaml", "yolo26n.yaml"), "no description, or no sequence of layers"),
        (lambda model: setattr(model, "model", nn.ReLU()), "no description, or no sequence of layers"),
    ],
)
def test_what_is_no_layer_is_refused(
    change: Callable[[Any], None], told: str, tmp_path: Path, tiny_module: nn.Module
) -> None:
    model = copy.deepcopy(tiny_module)
    change(model)
    torch.save({"model": model, "ema": None}, tmp_path / "m.pt")
    with pytest.raises(ModelError, match=told) as caught:
        load_detector(tmp_path / "m.pt")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "m.pt") in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"f": [99]}, r"cannot be run \(IndexError"),
        ({"f": "x"}, r"cannot be run \("),
        ({"stride": torch.tensor([1e6])}, "a stride of 1000000 pixels"),
        ({"stride": "x"}, r"cannot be run \("),
    ],
)
def test_a_model_that_cannot_run_is_told(
    changes: dict[str, Any], told: str, tmp_path: Path, tiny_module: nn.Module
) -> None:
    model: Any = copy.deepcopy(tiny_module)
    for name, value in changes.items():
        setattr(model if name == "stride" else model.model[1], name, value)
    with pytest.raises(ModelError, match=told):
        load_detector(save_module(model, tmp_path / "m.pt"))


@pytest.mark.parametrize("names", [[], {}, None, 3, {0: "a", 2: "b"}, {"x": "a"}, "abc"])
def test_names_that_do_not_count_classes_are_told(names: Any, tmp_path: Path, tiny_module: nn.Module) -> None:
    model: Any = copy.deepcopy(tiny_module)
    model.names = names
    with pytest.raises(ModelError, match=re.escape(f"metadata 'names' of '{tmp_path}/m.pt' is {names!r}")):
        load_detector(save_module(model, tmp_path / "m.pt"))


@pytest.mark.parametrize("name", ["\ud800", "a\0b", None, ["a"]])
def test_a_name_that_cannot_be_written_is_told(name: Any, tmp_path: Path, tiny_module: nn.Module) -> None:
    model: Any = copy.deepcopy(tiny_module)
    model.names = {0: "a", 1: name, 2: "c"}
    with pytest.raises(ModelError, match=re.escape(f"metadata 'names[1]' of '{tmp_path}/m.pt' is {name!r}")):
        load_detector(save_module(model, tmp_path / "m.pt"))


@pytest.mark.parametrize(
    "changes", [{"names": {10**5000: "a"}}, {"args": {"imgsz": 10**5000}}, {"yaml": {"nc": -(10**5000)}}]
)
def test_a_number_too_long_to_print_is_told(changes: dict[str, Any], tmp_path: Path, tiny_module: nn.Module) -> None:
    model: Any = copy.deepcopy(tiny_module)
    for name, value in changes.items():
        setattr(model, name, value)
    with pytest.raises(ModelError, match=r"m\.pt' holds no Ultralytics model \(a number of 16610 bits\)"):
        load_detector(save_module(model, tmp_path / "m.pt"))


def test_the_old_name_of_a_model_is_known() -> None:
    tasks = ultralytics_module("nn.tasks")
    assert known_class("ultralytics.nn.tasks.YOLOv10DetectionModel") is tasks.DetectionModel
    assert known_class("ultralytics.nn.tasks.SegmentationModel") is tasks.SegmentationModel
    for other in ("ultralytics.nn.tasks.Ensemble", "ultralytics.nn.tasks.parse_model", "models.yolo.DetectionModel"):
        assert known_class(other) is None


def nested(levels: int) -> Any:
    made: Any = [1]
    for _ in range(levels):
        made = [made, made]
    return made


def test_a_few_bytes_cannot_stand_for_any_number_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    few = MAX_VALUES // 100
    monkeypatch.setattr("yoloqat.detectors.recorded.MAX_VALUES", few)
    with pytest.raises(ValueError, match=f"more than {few} values"):
        Recorded(lambda _: None).plain(nested(30))
    with pytest.raises(ValueError, match=f"more than {MAX_DEPTH} within each other"):
        Recorded(lambda _: None).plain(nested(MAX_DEPTH + 2))


def test_plain_values_alone_are_copied() -> None:
    recorded = Recorded(lambda _: None)
    value = {"a": [1, (2.0, "x", None)], 3: True, "out": [Inert()], (1,): 1, "inner": {"gone": Inert(), "kept": 1}}
    assert recorded.plain(value) == {"a": [1, (2.0, "x", None)], 3: True, "inner": {"kept": 1}}
    assert recorded.plain(Inert()) is None
    held = Held(torch.ones(2, dtype=torch.float16))
    assert recorded.plain(held).dtype is torch.float32
