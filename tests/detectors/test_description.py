"""Checkpoints that somebody changed: a detector, or one line."""

from __future__ import annotations

import json
import random
import re

import pytest
import torch
from odd_values import damaged, made
from safetensors.torch import load_file, safe_open, save_file

from yoloqat.detectors import load_checkpoint
from yoloqat.errors import ModelError

SITE = "model.2.cv1.conv._input_quantizer"


@pytest.fixture(scope="module")
def parts(tiny_checkpoint):
    """The tensors and the metadata of a calibrated checkpoint."""
    with safe_open(tiny_checkpoint, framework="pt") as file:
        return load_file(tiny_checkpoint), json.loads(file.metadata()["yoloqat"])


@pytest.fixture
def write(tmp_path, parts):
    """Return a function that writes a checkpoint of other tensors or metadata and returns its path."""

    def written(*, tensors=None, data=None):
        path = tmp_path / "odd.safetensors"
        text = json.dumps(parts[1] if data is None else data)
        save_file(parts[0] if tensors is None else tensors, path, metadata={"yoloqat": text})
        return path

    return written


def changed(data, key, value):
    """Return metadata in which the entry of a dotted key is another, or gone where ``value`` is ``...``."""
    result = json.loads(json.dumps(data))
    *outer, last = key.split(".")
    part = result
    for name in outer:
        part = part[name]
    if value is ...:
        del part[last]
    else:
        part[last] = value
    return result


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        *((key, ..., f"lacks {key}; expected") for key in ("architecture", "names", "imgsz", "source", "quantization")),
        ("family", ..., "metadata 'family' of 'PATH' is None; expected one of ultralytics, yolov5, yolov7"),
        ("family", ["yolov5"], "metadata 'family' of 'PATH' is ['yolov5']; expected one of"),
        ("architecture", [], "metadata 'architecture' of 'PATH' is []; expected a JSON object"),
        ("architecture.yaml", ..., "metadata 'architecture.yaml' of 'PATH' is None; expected a JSON object"),
        (
            "architecture.yaml",
            "yolov8n.yaml",
            "metadata 'architecture.yaml' of 'PATH' is 'yolov8n.yaml'; expected a JSON",
        ),
        ("architecture.task", ..., "metadata 'architecture.task' of 'PATH' is None; expected one of detect, segment"),
        (
            "architecture.task",
            "classify",
            "metadata 'architecture.task' of 'PATH' is 'classify'; expected one of detect",
        ),
        ("architecture.task", {}, "metadata 'architecture.task' of 'PATH' is {}; expected one of detect"),
        ("architecture.channels", ..., "metadata 'architecture.channels' of 'PATH' is None; expected a whole number"),
        ("architecture.channels", 10**9, "metadata 'architecture.channels' of 'PATH' is 1000000000; expected a whole"),
        ("architecture.channels", "3", "metadata 'architecture.channels' of 'PATH' is '3'; expected a whole number"),
        (
            "architecture.classes",
            ...,
            "metadata 'architecture.classes' of 'PATH' is None; expected 3, one for each name",
        ),
        ("architecture.classes", 80, "metadata 'architecture.classes' of 'PATH' is 80; expected 3, one for each name"),
        ("task", "segment", "metadata 'architecture.task' of 'PATH' is 'segment'; expected one of detect"),
        ("stride", 0, "metadata 'stride' of 'PATH' is 0; expected a whole number from 1"),
        ("names", [], "metadata 'names' of 'PATH' is []; expected class names numbered from 0"),
        ("names", {}, "metadata 'names' of 'PATH' is {}; expected class names numbered from 0"),
        ("names", None, "metadata 'names' of 'PATH' is None; expected class names numbered from 0"),
        ("names", {"0": "a", "2": "b"}, "metadata 'names' of 'PATH' is {'0': 'a', '2': 'b'}; expected class names"),
        ("names", {"0": ["a"], "1": "b", "2": "c"}, "metadata 'names[0]' of 'PATH' is ['a']; expected a name"),
        *(
            ("imgsz", value, f"metadata 'imgsz' of 'PATH' is {value!r}; expected")
            for value in ([], "abc", -64, 0, 64.5, 10**9, None, True, {})
        ),
        ("source", "weights.pt", "metadata 'source' of 'PATH' is 'weights.pt'; expected a JSON object"),
        ("source", None, "metadata 'source' of 'PATH' is None; expected a JSON object"),
        ("source.path", ..., "metadata 'source.path' of 'PATH' is None; expected a text that can be written"),
        ("source.path", "a\0b", r"metadata 'source.path' of 'PATH' is 'a\x00b'; expected a text that can be written"),
        ("source.sha256", 5, "metadata 'source.sha256' of 'PATH' is 5; expected a text that can be written"),
        ("quantization", [], "metadata 'quantization' of 'PATH' is []; expected a JSON object"),
        (
            "quantization.layers",
            ...,
            "metadata 'quantization.layers' of 'PATH' is None; expected a list of layer names",
        ),
        ("quantization.layers", [1], "metadata 'quantization.layers' of 'PATH' is [1]; expected a list of layer names"),
        ("quantization.layers", "model.0", "metadata 'quantization.layers' of 'PATH' is 'model.0'; expected a list"),
        ("quantization.calibration", [], "metadata 'quantization.calibration' of 'PATH' is []; expected a JSON object"),
        ("quantization.placement", None, "metadata 'quantization.placement' of 'PATH' is None; expected a JSON object"),
        ("quantization.placement.groups", 5, "'PATH' cannot be used: the stored placement is damaged"),
        ("quantization.placement.version", 9, "'PATH' cannot be used: the stored placement is of version 9"),
        (
            "quantization.placement.floats",
            {"model.9": 5},
            "'PATH' cannot be used: the stored placement is damaged (TypeError('a int instead of a text'))",
        ),
        ("quantization.placement.unreached", [[]], "placement is damaged (TypeError('a list instead of a text'))"),
        ("quantization.placement.groups", [{"input": [7]}], "is damaged (TypeError('a int instead of a text'))"),
        ("quantization.config", ..., "metadata 'quantization.config' of 'PATH' is None; expected a JSON object"),
        ("quantization.config.adds", [], "'PATH' cannot be used: adds is []; expected one of residual, both, none"),
        ("quantization.config.weights", 8, "'PATH' cannot be used: settings are 8; expected a dict of QuantScheme"),
        (
            "quantization.config.activations.bits",
            64,
            "'PATH' cannot be used: bits is 64; expected a whole number from 2",
        ),
        ("quantization.config.ignore", [1], "'PATH' cannot be used: ignore pattern is 1; expected a name, a glob"),
    ],
)
def test_entries_that_do_not_do_are_named(write, parts, key, value, told):
    path = write(data=changed(parts[1], key, value))
    with pytest.raises(ModelError, match=re.escape(told.replace("PATH", str(path)))) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_height_and_width_of_the_training_are_kept(write, parts):
    assert load_checkpoint(write(data=changed(parts[1], "imgsz", [48, 80]))).imgsz == (48, 80)
    assert load_checkpoint(write(data=changed(parts[1], "imgsz", [64, 64]))).imgsz == 64


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("model.0.conv.weight", None, "Missing key"),
        ("model.0.conv.weight", lambda t: t[:1], "size mismatch for model.0.conv.weight"),
        ("model.0.conv.weight", lambda t: t.to(torch.int8), "holds torch.int8; expected floating-point numbers"),
        (
            "model.0.conv.weight",
            lambda t: t.to(torch.complex64),
            "holds torch.complex64; expected floating-point numbers",
        ),
        ("model.0.conv.weight", lambda t: t * torch.nan, "holds NaN or infinity; expected finite numbers"),
        ("model.0.conv.bias", lambda t: t + torch.inf, "holds NaN or infinity; expected finite numbers"),
        (
            "model.0.conv.weight",
            lambda t: t.to(torch.float8_e4m3fn),
            "holds torch.float8_e4m3fn; expected floating-point numbers of 16 bits or more",
        ),
        (f"{SITE}._amax", lambda t: t.to(torch.float8_e5m2), "holds torch.float8_e5m2; expected floating-point"),
        (f"{SITE}._amax", lambda t: t.expand(7).clone(), "has the shape (7,); expected ()"),
        (f"{SITE}._amax", lambda t: t.to(torch.int32), "holds torch.int32; expected floating-point numbers"),
        (
            "model.2.cv1.conv._weight_quantizer._amax",
            lambda t: t.flatten()[:1],
            "has the shape (1,); expected (32, 1, 1, 1)",
        ),
        ("model.99.weight", lambda _: torch.zeros(1), "Unexpected key"),
    ],
)
def test_tensors_that_do_not_fit_are_named(write, parts, name, change, told):
    tensors = dict(parts[0])
    given = tensors.pop(name, None)
    if change is not None:
        tensors[name] = change(given)
    path = write(tensors=tensors)
    with pytest.raises(ModelError, match=re.escape(told)) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert name in str(caught.value)


def test_whatever_the_metadata_say_ends_in_a_detector_or_in_one_line(write, parts):
    rng = random.Random(0)
    found = [made(lambda: load_checkpoint(write(data=damaged(parts[1], rng, spare=("yaml",))))) for _ in range(150)]
    assert found.count(None) > 50


def test_whatever_the_tensors_are_ends_in_a_detector_or_in_one_line(write, parts):
    rng = random.Random(0)
    kinds = (
        torch.float16,
        torch.bfloat16,
        torch.float64,
        torch.int8,
        torch.int64,
        torch.bool,
        torch.complex64,
        torch.uint8,
    )
    shapes = ((), (0,), (1,), (2, 3), (1, 1, 1, 1))
    values = (0.0, -1.0, float("nan"), float("inf"), 1e38)
    for _ in range(60):
        tensors = dict(parts[0])
        name = rng.choice(sorted(tensors))
        tensor = tensors.pop(name)
        kind = rng.randrange(4)
        if kind == 1:
            tensors[name] = tensor.to(rng.choice(kinds))
        elif kind == 2:
            tensors[name] = torch.full(rng.choice(shapes), rng.choice(values))
        elif kind == 3:
            tensors[name] = torch.full_like(tensor, rng.choice(values))
        made(lambda tensors=tensors: load_checkpoint(write(tensors=tensors)))


def test_whatever_bytes_are_changed_ends_in_a_detector_or_in_one_line(tiny_checkpoint, tmp_path):
    good, rng = tiny_checkpoint.read_bytes(), random.Random(0)
    head = 8 + int.from_bytes(good[:8], "little")
    path = tmp_path / "odd.safetensors"
    for _ in range(150):
        content = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            content[rng.randrange(head)] = rng.choice(b'\0"[]{}:,019aF\xff')
        path.write_bytes(content[: rng.choice((None, None, None, head, 9, rng.randrange(len(content))))])
        made(lambda: load_checkpoint(path))
