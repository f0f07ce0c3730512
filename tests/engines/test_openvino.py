from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest

from yoloqat.engines import OnnxPredictor, OpenVINOPredictor, build_openvino
from yoloqat.engines.openvino_import import import_openvino
from yoloqat.errors import ConfigError, EngineError, ModelError, OutputError
from yoloqat.predictor import Predictor


@pytest.fixture(scope="module")
def built(qdq_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("openvino") / "model_openvino"
    return out, build_openvino(qdq_path, out)


def test_quantized_convolutions_run_in_integers(built):
    _, build = built
    assert {entry.name for entry in build.precision.int8_convolutions} == {"first", "second"}
    assert (build.precision.int8_mac_share, build.precision.int8_mac_share_all) == (1.0, 1.0)
    assert set(build.overflow) == {"first", "second"}


def test_directory_holds_the_model_and_what_it_is(built):
    out, _ = built
    assert sorted(path.name for path in out.iterdir()) == [
        "metadata.json",
        "metadata.yaml",
        "model.bin",
        "model.xml",
    ]
    metadata = json.loads((out / "metadata.json").read_text())
    assert metadata["quantized_layers"] == ["first", "second"]
    assert metadata["schema"]["name"] == "yoloqat-openvino"


def test_it_is_a_predictor_and_agrees_with_onnx_runtime(built, qdq_path, images):
    out, _ = built
    predictor, reference = OpenVINOPredictor(out), OnnxPredictor(qdq_path)
    assert isinstance(predictor, Predictor)
    assert predictor.info == reference.info
    (output,), (wanted,) = predictor(images), reference(images)
    assert output.dtype == np.float32
    # one flipped rounding of an activation (4/127) times the largest weight (127 * 0.006)
    assert np.abs(output - wanted).max() < 4 / 127 * 127 * 0.006 * 1.5


def test_float_file_stays_float(float_path, tmp_path, images):
    build = build_openvino(float_path, tmp_path / "ir")
    assert {entry.precision for entry in build.precision.convolutions} == {"f32"}
    assert (build.precision.int8_mac_share, build.overflow) == (None, {})
    wanted = OnnxPredictor(float_path)(images)[0]
    for path in (float_path, tmp_path / "ir"):
        np.testing.assert_allclose(OpenVINOPredictor(path)(images)[0], wanted, rtol=1e-4, atol=1e-4)


def test_results_are_copies(built, images):
    predictor = OpenVINOPredictor(built[0])
    first = predictor(images)[0]
    kept = first.copy()
    predictor(np.zeros_like(images))
    np.testing.assert_array_equal(first, kept)


def test_throughput_hint_gives_the_same_numbers(built, images):
    fast = OpenVINOPredictor(built[0], hint="throughput")
    np.testing.assert_allclose(fast(images)[0], OpenVINOPredictor(built[0])(images)[0], atol=1e-4)


def test_settings_out_of_range(built):
    with pytest.raises(ConfigError, match="hint is 'fast'"):
        OpenVINOPredictor(built[0], hint="fast")
    with pytest.raises(ConfigError, match="threads is -1"):
        OpenVINOPredictor(built[0], threads=-1)


def test_images_of_another_size_are_refused(built):
    with pytest.raises(EngineError, match=r"images have the shape \(2, 3, 16, 16\)"):
        OpenVINOPredictor(built[0])(np.zeros((2, 3, 16, 16), dtype=np.float32))


def test_directory_that_something_else_wrote(built, tmp_path):
    (tmp_path / "model.xml").write_text("<net/>")
    with pytest.raises(ModelError, match=r"cannot read '.*metadata\.json' \(FileNotFoundError"):
        OpenVINOPredictor(tmp_path)
    (tmp_path / "metadata.json").write_text((built[0] / "metadata.json").read_text())
    with pytest.raises(ModelError, match=f"OpenVINO cannot read '{tmp_path}'"):
        OpenVINOPredictor(tmp_path)
    (tmp_path / "metadata.json").write_text("{}")
    with pytest.raises(ModelError, match=r"metadata\.json' \(KeyError: 'info'\)"):
        OpenVINOPredictor(tmp_path)


def test_operator_that_openvino_lacks(tiny, tmp_path):
    model = tiny()
    model.graph.node[3].op_type, model.graph.node[3].domain = (
        "NoSuchOperator",
        "somewhere",
    )  # its reader may crash on it
    model.opset_import.append(onnx.helper.make_opsetid("somewhere", 1))
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match=r"OpenVINO('s reader crashes by signal 11 on| cannot read) '.*odd\.onnx'"):
        build_openvino(tmp_path / "odd.onnx", tmp_path / "ir")
    assert not (tmp_path / "ir").exists()


def test_place_that_cannot_be_written(qdq_path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write '.*file/ir'"):
        build_openvino(qdq_path, tmp_path / "file" / "ir")


def test_weights_cut_short_are_noticed(qdq_path, tmp_path, monkeypatch):
    openvino = import_openvino()
    save = openvino.save_model

    def cut(model, path, **settings):
        save(model, path, **settings)
        os.truncate(path.replace(".xml", ".bin"), 10)

    monkeypatch.setattr(openvino, "save_model", cut)
    with pytest.raises(OutputError, match=r"cannot write '.*ir' \("):
        build_openvino(qdq_path, tmp_path / "ir")
    assert list(tmp_path.iterdir()) == []


def test_model_that_does_not_compile(qdq_path, monkeypatch):
    def refuse(self, *_):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(import_openvino().Core, "compile_model", refuse)
    with pytest.raises(EngineError, match=r"OpenVINO cannot compile the model \(no such kernel\)"):
        OpenVINOPredictor(qdq_path)


def test_import_hides_telemetry_and_needs_no_torch():
    script = (
        "import sys, yoloqat.engines\n"
        "before = {name for name in ('torch', 'openvino') if name in sys.modules}\n"
        "from yoloqat.engines.openvino_import import import_openvino\n"
        "openvino = import_openvino()\n"
        "sender = sys.modules['openvino.tools.ovc.telemetry_utils'].tm.__name__\n"
        "print(before, sender, 'openvino_telemetry' in sys.modules, 'torch' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["set()", "openvino.tools.ovc.telemetry_stub", "False", "False"]
