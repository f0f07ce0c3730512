from __future__ import annotations

import pytest
from onnx import TensorProto

from yoloqat.deploy import Tensor, describe
from yoloqat.deploy.artifact import model_files, plan_bytes
from yoloqat.errors import ModelError


def test_tensors_and_classes_come_from_the_onnx_file(make_onnx, engine):
    source = make_onnx(batch="n")
    found = describe(engine, source)
    assert found.kind == "tensorrt"
    assert found.inputs == (Tensor("images", "FP32", (None, 3, 32, 32)),)
    assert [tensor.name for tensor in found.outputs] == ["output0", "output1"]
    assert found.outputs[0].shape == (None, 7, 21)
    assert (found.info.stride, found.info.classes) == (16, 3)


def test_kinds(make_onnx, tmp_path):
    source = make_onnx()
    assert describe(source, source).kind == "onnx"
    directory = tmp_path / "model_openvino"
    directory.mkdir()
    (directory / "model.xml").write_text("<net/>")
    (directory / "model.bin").write_bytes(b"weights")
    found = describe(directory, source)
    assert found.kind == "openvino"
    assert model_files(found, plan="x") == {"model.xml": b"<net/>", "model.bin": b"weights"}


@pytest.mark.parametrize("name", ["absent.onnx", "weights.pt"])
def test_what_is_no_artefact(make_onnx, tmp_path, name):
    source = make_onnx()
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(ModelError, match=f"{name}' is no artefact"):
        describe(tmp_path / name, source)


def test_an_element_type_that_no_server_takes(make_onnx):
    source = make_onnx(dtype=TensorProto.DOUBLE)
    with pytest.raises(ModelError, match=r"tensor 'images' of '.*model\.onnx' has the element type 11"):
        describe(source, source)


def test_header_is_left_away(engine, tmp_path):
    assert plan_bytes(engine) == b"the plan"
    for data in (b"ftrt plan without a header", b"\x02\x00\x00\x00[]rest", b"", b"\x05\x00\x00\x00{bad}rest"):
        bare = tmp_path / "bare.plan"
        bare.write_bytes(data)
        assert plan_bytes(bare) == data


def test_files_that_are_gone(make_onnx, engine):
    source = make_onnx()
    artifact = describe(source, source)
    source.unlink()
    with pytest.raises(ModelError, match=r"cannot read '.*model\.onnx' \(No such file"):
        model_files(artifact, plan="x")
    with pytest.raises(ModelError, match=r"cannot read '.*absent\.plan'"):
        plan_bytes(engine.with_name("absent.plan"))
