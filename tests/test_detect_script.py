"""The deployment example finds and draws what the evaluator finds."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from tiny_detector import NAMES, TinyData

from yoloqat.engines import open_engine
from yoloqat.evaluation.nms import non_max_suppression

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "detect.py"


@pytest.fixture
def detect(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("detect")


@pytest.fixture
def image(tiny_data: TinyData) -> Path:
    return sorted(tiny_data.images.iterdir())[0]


@pytest.mark.parametrize("kind", ["tiny_onnx", "tiny_engine"])
def test_boxes_are_drawn_where_objects_are(detect, kind, image, tmp_path, request, capsys):
    out = tmp_path / "boxes.png"
    model = request.getfixturevalue(kind)
    capsys.readouterr()  # what building it said
    assert detect.run([str(model), str(image), "--out", str(out), "--threads", "1", "--conf", "0.05"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == f"{len(lines)} objects, drawn in {out}"
    assert lines
    assert {line.split()[0] for line in lines} <= set(NAMES.values())
    before, after = (np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (image, out))
    assert before.shape == after.shape
    changed = np.abs(before - after).sum(2) > 0
    assert 0 < changed.mean() < 0.9


def test_runtimes_are_told_to_send_nothing(detect, tiny_onnx, tiny_engine, monkeypatch):
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)
    monkeypatch.delitem(sys.modules, "openvino_telemetry")
    detect.load(tiny_onnx, 1)
    detect.load(tiny_engine, 1)
    assert detect.os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    assert sys.modules["openvino_telemetry"] is None


def test_an_image_stored_turned_is_drawn_upright(detect, tiny_onnx, image, tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = tmp_path / "turned.png"
    Image.open(image).transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    lines, pixels = [], []
    for name, path in (("a", image), ("b", turned)):
        out = tmp_path / f"{name}.png"
        capsys.readouterr()
        detect.run([str(tiny_onnx), str(path), "--out", str(out), "--threads", "1", "--conf", "0.05"])
        lines.append(capsys.readouterr().out.splitlines()[:-1])
        pixels.append(np.asarray(Image.open(out)))
    assert lines[0] == lines[1] != []
    np.testing.assert_array_equal(*pixels)


def test_suppression_is_the_evaluators(detect):
    rng = np.random.default_rng(0)
    raw = np.concatenate([rng.uniform(10, 54, (2, 80)), rng.uniform(5, 30, (2, 80)), rng.uniform(0, 1, (1, 80))])
    raw = raw[None].astype(np.float32)
    (wanted,) = non_max_suppression(raw, classes=1, conf=0.25, iou=0.5)
    found = detect.detections(raw, 1, 0.25, 0.5)
    assert 5 < len(found) < 60
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_letterbox_centres_the_image(detect):
    pixels, scale, (left, top) = detect.letterbox(Image.new("RGB", (100, 50), (255, 0, 0)), (64, 64))
    assert (scale, left, top) == (0.64, 0, 16)
    assert pixels.shape == (1, 3, 64, 64)
    np.testing.assert_allclose(pixels[0, :, 0, 0], 114 / 255, rtol=1e-6)
    np.testing.assert_allclose(pixels[0, :, 32, 32], [1, 0, 0])


def test_overlap_of_boxes(detect):
    box = np.array([0.0, 0, 10, 10])
    assert detect.overlap(box, box) == 1.0
    assert detect.overlap(box, np.array([5.0, 0, 15, 10])) == pytest.approx(1 / 3)
    assert detect.overlap(box, np.array([20.0, 0, 30, 10])) == 0.0


def test_the_example_agrees_with_the_package(detect, tiny_engine, image):
    model, names, size = detect.load(tiny_engine, 1)
    engine = open_engine(tiny_engine)
    assert (names, size) == (engine.info.names, engine.info.imgsz)
    pixels, _, _ = detect.letterbox(Image.open(image).convert("RGB"), size)
    np.testing.assert_allclose(model(pixels), engine(pixels)[0], atol=1e-3)


def test_it_needs_neither_torch_nor_yoloqat(tiny_onnx, image, tmp_path):
    copy = tmp_path / "detect.py"
    shutil.copy(SCRIPT, copy)
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'yoloqat', 'cv2', 'ultralytics')))\n"
        f"sys.path.insert(0, {str(tmp_path)!r}); import detect\n"
        f"sys.exit(detect.run([{str(tiny_onnx)!r}, {str(image)!r}, '--out', {str(tmp_path / 'x.png')!r}]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "x.png").is_file()
