from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from forwards import CONFIG
from tiny_detector import make_module, save_module

from yoloqat.config import ExportConfig
from yoloqat.datasets import DetectionDataset
from yoloqat.detectors import load_detector
from yoloqat.engines import OpenVINOPredictor
from yoloqat.errors import ConfigError, DataError, ModelError
from yoloqat.pipeline.build import engine_noise, float_source, open_float, score_engine
from yoloqat.pipeline.export import SOURCE_KEY, export_onnx
from yoloqat.pipeline.fidelity import fidelity_to
from yoloqat.pipeline.models import check_scoring, onnx_info, open_model, path_key
from yoloqat.pipeline.run import Run
from yoloqat.predictor import Images, RawOutputs

MakeRun = Callable[..., Run]


def with_source(path: Path, target: Path, text: str | None) -> Path:
    """Write a copy of an ONNX file whose metadata name another source, or none."""
    model = onnx.load(path)
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key != SOURCE_KEY}
    onnx.helper.set_model_props(model, kept | ({} if text is None else {SOURCE_KEY: text}))
    onnx.save(model, target)
    return target


def test_the_float_model_is_found_by_path_and_hash(tiny_onnx: Path, tiny_model: Path) -> None:
    found = float_source(tiny_onnx, None)
    assert found is not None
    assert found.samefile(tiny_model)


def test_a_float_model_that_changed_is_not_taken_for_it(tiny_onnx: Path, tmp_path: Path) -> None:
    other = save_module(make_module(seed=1), tmp_path / "tiny.pt")
    sha256 = path_key(other)["sha256"]
    right = with_source(tiny_onnx, tmp_path / "right.onnx", repr({"path": str(other), "sha256": sha256}))
    wrong = with_source(tiny_onnx, tmp_path / "wrong.onnx", repr({"path": str(other), "sha256": "0" * 64}))
    assert (float_source(right, None), float_source(wrong, None)) == (other, None)
    other.unlink()
    assert float_source(right, None) is None


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "{", "3", "[]", "{'path': 3, 'sha256': ''}", "{'path': 'x.pt'}", "(" * 300, "{[]: 1}"),
        "{'path': 'a\\0b', 'sha256': ''}",
        "{'path': '/dev/zero', 'sha256': 5}",
        f"{{'path': '{'x' * 5000}', 'sha256': ''}}",
    ],
)
def test_metadata_without_a_source_give_none(tiny_onnx: Path, tmp_path: Path, text: str | None) -> None:
    assert float_source(with_source(tiny_onnx, tmp_path / "m.onnx", text), None) is None


def test_a_named_float_model_is_taken_or_refused(tiny_onnx: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert float_source(tiny_onnx, tiny_model) == tiny_model
    with pytest.raises(ModelError, match=r"absent\.pt' does not exist; expected the float \.pt or \.onnx"):
        float_source(tiny_onnx, tmp_path / "absent.pt")
    with pytest.raises(ModelError, match=r"cannot read '.*absent\.onnx'"):
        float_source(tmp_path / "absent.onnx", None)


def test_an_engine_is_scored_beside_its_float_model(
    make_run: MakeRun, tiny_engine: Path, tiny_onnx: Path, tiny_model: Path, dataset: DetectionDataset
) -> None:
    predictor = OpenVINOPredictor(tiny_engine)
    found = score_engine(predictor, tiny_onnx, tiny_model, dataset, CONFIG, run=make_run())
    assert found["map_float"] > found["map_engine"] > 0.1
    assert found["drop"] == pytest.approx(found["map_float"] - found["map_engine"], abs=1e-9)
    alone = score_engine(predictor, tiny_onnx, None, dataset, CONFIG, run=make_run("alone"), qfloat=tiny_onnx)
    low, high = alone["qfloat_difference_ci95"]
    assert low <= alone["qfloat_difference"] <= high
    assert alone["qfloat_difference"] == pytest.approx(alone["map_qfloat"] - alone["map_engine"], abs=1e-9)
    assert found["map_qfloat"] is None
    assert (alone["map_engine"], alone["map_float"], alone["drop"], alone["drop_ci95"]) == (
        found["map_engine"],
        None,
        None,
        None,
    )


def test_a_quantized_model_is_no_float_model(
    make_run: MakeRun, tiny_engine: Path, tiny_onnx: Path, tiny_checkpoint: Path, dataset: DetectionDataset
) -> None:
    with pytest.raises(ModelError, match=r"tiny\.pt' is quantized already \(22 layers\)"):
        score_engine(OpenVINOPredictor(tiny_engine), tiny_onnx, tiny_checkpoint, dataset, CONFIG, run=make_run())


def test_the_noise_of_an_engine_is_that_of_quantization_and_its_own(
    make_run: MakeRun, tiny_engine: Path, tiny_onnx: Path, tiny_model: Path, dataset: DetectionDataset
) -> None:
    engine, run = OpenVINOPredictor(tiny_engine), make_run()
    found = engine_noise(engine, open_float(tiny_model, run), dataset.images, CONFIG, run=run, qfloat=tiny_onnx)
    kinds = ("d", "box_disagreement", "qfloat_d", "qfloat_box_disagreement")
    assert set(found) >= {"fidelity_images", *kinds, *(f"{kind}_ci95" for kind in kinds)}
    assert 0 <= found["qfloat_d"] < 0.1 * found["d"]
    for name in ("d", "qfloat_d"):
        low, high = found[f"{name}_ci95"]
        assert low <= found[name] <= high
    alone = engine_noise(engine, None, dataset.images, CONFIG, run=run)
    assert set(alone.values()) == {None, len(dataset.images)}


def test_an_engine_with_its_own_nms_has_no_anchors_to_compare(
    make_run: MakeRun, tiny_engine: Path, tiny_model: Path, dataset: DetectionDataset
) -> None:
    class Suppressing:
        info = replace(OpenVINOPredictor(tiny_engine).info, end2end=True)

        def __call__(self, images: Images) -> RawOutputs:
            raise AssertionError(images.shape)

    run = make_run()
    found = engine_noise(Suppressing(), open_float(tiny_model, run), dataset.images, CONFIG, run=run)
    assert (found["d"], found["d_ci95"]) == (None, None)


def test_a_float_onnx_file_stands_for_the_float_model(
    make_run: MakeRun, tiny_model: Path, tiny_onnx: Path, dataset: DetectionDataset, tmp_path: Path
) -> None:
    export_onnx(load_detector(tiny_model), tmp_path / "float.onnx", ExportConfig(imgsz=64))
    assert float_source(tiny_onnx, tmp_path / "float.onnx") == tmp_path / "float.onnx"
    floating, same = (open_float(path, make_run()) for path in (tmp_path / "float.onnx", tiny_model))
    assert fidelity_to(same, floating, dataset.images, CONFIG, run=make_run()).d.value < 1e-4
    with pytest.raises(ModelError, match=r"model\.onnx' is quantized already \(\d+ QuantizeLinear nodes\)"):
        open_float(tiny_onnx, make_run())


def test_every_kind_of_model_is_opened(
    make_run: MakeRun, tiny_model: Path, tiny_checkpoint: Path, tiny_onnx: Path, tiny_engine: Path
) -> None:
    paths = (tiny_model, tiny_checkpoint, tiny_onnx, tiny_engine)
    models = [open_model(path, make_run()) for path in paths]
    assert [model.engine for model in models] == ["torch", "torch", "onnxruntime", "openvino"]
    assert {model.imgsz for model in models} == {64}
    assert len({model.key["sha256"] for model in models}) == 4
    assert len({tuple(model.predictor.info.names.items()) for model in models}) == 1


def test_a_missing_model_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.engine' does not exist"):
        open_model(tmp_path / "absent.engine", make_run())


def test_a_directories_key_changes_with_its_files(tiny_engine: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_engine, copy)
    before = path_key(copy)
    assert before["sha256"] == path_key(tiny_engine)["sha256"]
    (copy / "model.bin").write_bytes((copy / "model.bin").read_bytes() + b"\0")
    changed = path_key(copy)
    (copy / "model.bin").rename(copy / "renamed.bin")
    assert len({before["sha256"], changed["sha256"], path_key(copy)["sha256"]}) == 3


def test_what_cannot_be_scored_is_told_early(tiny_onnx: Path, dataset: DetectionDataset) -> None:
    info = onnx_info(tiny_onnx)
    check_scoring(info, dataset, CONFIG)
    check_scoring(info, None, CONFIG)
    with pytest.raises(ConfigError, match=r"imgsz is 96 and the model is fixed to 64 x 64"):
        check_scoring(info, None, replace(CONFIG, imgsz=96))
    with pytest.raises(DataError, match="without a model class: 'star'"):
        check_scoring(replace(info, names={0: "disc", 1: "box"}), dataset, CONFIG)
