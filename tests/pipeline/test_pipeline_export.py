from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from forwards import CONFIG
from onnx import numpy_helper
from tiny_detector import IMGSZ, TinyData

from yoloqat.config import ExportConfig
from yoloqat.datasets import Batch, DetectionDataset, plan_batches, read_batches
from yoloqat.detectors import load_checkpoint, load_detector
from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.engines import OnnxPredictor
from yoloqat.errors import ConfigError, ExportError
from yoloqat.evaluation import evaluate
from yoloqat.pipeline.export import export_onnx, lint_export, verify_export
from yoloqat.pipeline.parity import NodeParity, node_parity
from yoloqat.pipeline.run import Run
from yoloqat.quant import quantized_layers

MakeRun = Callable[..., Run]
ONE = replace(CONFIG, batch=1)


def scale_of(path: Path, tampered: Path, layer: str, factor: float) -> Path:
    """Write a copy of an ONNX file in which the weight scale of one layer is multiplied."""
    model = onnx.load(path)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node}
    node = next(node for node in model.graph.node if node.name == layer)
    scale = constants[made[node.input[1]].input[1]]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(factor), scale.name))
    onnx.save(model, tampered)
    return tampered


@pytest.fixture
def few(dataset: DetectionDataset) -> DetectionDataset:
    """The first images alone: a second thread costs dearly on a busy machine."""
    images = dataset.images[:6]
    known = {record.image_id for record in images}
    own = [entry for entry in dataset.annotations["annotations"] if entry["image_id"] in known]
    entries = [entry for entry in dataset.annotations["images"] if entry["id"] in known]
    return replace(dataset, images=images, annotations={**dataset.annotations, "images": entries, "annotations": own})


@pytest.fixture
def batches(dataset: DetectionDataset) -> list[Batch]:
    return list(read_batches(plan_batches(dataset.images[:3], IMGSZ, 1)))


def test_every_node_gives_the_codes_of_torch(tiny_checkpoint: Path, tiny_onnx: Path, batches: list[Batch]) -> None:
    detector = load_checkpoint(tiny_checkpoint)
    nodes = node_parity(detector, tiny_onnx, batches, threads=1)
    layers = [name for name, _ in quantized_layers(detector.module)]
    assert {node.layer for node in nodes} < set(layers)  # readers of one tensor share its quantizer
    assert layers[0] in {node.layer for node in nodes}
    assert max(node.max_steps for node in nodes) <= 1
    assert max(node.share for node in nodes) <= 0.001
    assert next(node for node in nodes if node.layer == "model.1.conv").elements == 3 * 16 * (IMGSZ // 2) ** 2


def test_a_wrong_scale_is_found_where_it_is_and_nowhere_else(
    tiny_checkpoint: Path, tiny_onnx: Path, batches: list[Batch], tmp_path: Path
) -> None:
    wrong = scale_of(tiny_onnx, tmp_path / "wrong.onnx", "model.0.conv", 1.5)
    nodes = node_parity(load_checkpoint(tiny_checkpoint), wrong, batches, threads=1)
    worst = max(nodes, key=lambda node: node.max_steps)
    assert (worst.layer, worst.max_steps > 1, worst.share > 0.1) == ("model.1.conv", True, True)
    assert max(node.max_steps for node in nodes if node.layer != "model.1.conv") <= 1


def test_a_file_of_another_model_is_refused(
    tiny_checkpoint: Path, tiny_onnx: Path, batches: list[Batch], tmp_path: Path
) -> None:
    model = onnx.load(tiny_onnx)
    for node in model.graph.node:
        node.name = node.name.replace("model.1.conv", "other.1.conv")
        node.input[:] = [name.replace("model.1.conv", "other.1.conv") for name in node.input]
        node.output[:] = [name.replace("model.1.conv", "other.1.conv") for name in node.output]
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace("model.1.conv", "other.1.conv")
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(ExportError, match=r"feeds other\.1\.conv; expected a quantizer of the detector"):
        node_parity(load_checkpoint(tiny_checkpoint), tmp_path / "other.onnx", batches, threads=1)


def test_an_uncalibrated_detector_has_no_codes(tiny_checkpoint: Path, tiny_onnx: Path, batches: list[Batch]) -> None:
    detector = load_checkpoint(tiny_checkpoint)
    dict(quantized_layers(detector.module))["model.1.conv"]._input_quantizer.reset_amax()
    with pytest.raises(ExportError, match=r"model\.1\.conv.*has no amax"):
        node_parity(detector, tiny_onnx, batches, threads=1)


def test_nothing_compared_is_a_share_of_zero() -> None:
    assert NodeParity("model.0").share == 0.0


def test_verification_finds_torch_and_the_file_alike(
    make_run: MakeRun, tiny_checkpoint: Path, tiny_onnx: Path, few: DetectionDataset
) -> None:
    found = verify_export(load_checkpoint(tiny_checkpoint), tiny_onnx, few, ONE, run=make_run(), batch=1)
    assert found["node_max_steps"] <= 1
    assert found["node_flip_share"] <= found["node_flip_share_worst"] <= 0.001
    assert found["nodes_compared"] == len(found["nodes"]) > 5
    low, high = found["map_difference_ci95"]
    assert low <= found["map_difference"] <= high or low == high
    assert found["map_difference"] == pytest.approx(found["map_qfloat"] - found["map_onnx"], abs=1e-9)
    assert found["thread_counts"] == [1, 2]
    assert found["thread_noise"] >= 0
    assert torch.get_num_threads() == 1


def test_a_batch_that_no_data_fills_is_refused_rather_than_passed(
    make_run: MakeRun, tiny_checkpoint: Path, tiny_onnx: Path, few: DetectionDataset
) -> None:
    with pytest.raises(ConfigError, match=r"batch is 7 and the data set has 6 images"):
        verify_export(load_checkpoint(tiny_checkpoint), tiny_onnx, few, ONE, run=make_run(), batch=7)


def test_an_interrupted_verification_goes_on_with_the_file_exported_again(
    traced_anew: None,
    make_run: MakeRun,
    tiny_checkpoint: Path,
    tiny_onnx: Path,
    few: DetectionDataset,
    tmp_path: Path,
) -> None:
    whole = verify_export(load_checkpoint(tiny_checkpoint), tiny_onnx, few, ONE, run=make_run("whole"), batch=1)

    def stop(step: str, done: int, total: int) -> None:
        if step.startswith("ONNX") and done > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_export(load_checkpoint(tiny_checkpoint), tiny_onnx, few, ONE, run=make_run(progress=stop), batch=1)
    again = tmp_path / "again.onnx"
    shutil.copy(tiny_onnx, again)
    model = onnx.load(again)
    next(entry for entry in model.metadata_props if entry.key == "date").value = "another day"
    onnx.save(model, again)
    told: list[str] = []
    run = make_run(progress=lambda step, done, total: told.append(f"{step} {done}"))
    found = verify_export(load_checkpoint(tiny_checkpoint), again, few, ONE, run=run, batch=1)
    assert found == whole
    assert [line for line in told if line.startswith("QFloat: ")] == ["QFloat: evaluate 6"]
    assert "ONNX Runtime: evaluate 3" not in told
    assert "ONNX Runtime: evaluate 5" in told


def test_a_float_detector_is_exported_as_plain_onnx(tiny_model: Path, tmp_path: Path) -> None:
    report = export_onnx(load_detector(tiny_model), tmp_path / "f.onnx", ExportConfig(imgsz=IMGSZ))
    operators = {node.op_type for node in onnx.load(tmp_path / "f.onnx").graph.node}
    assert (report.quantized_convolutions, report.convolutions) == (0, 27)
    assert "QuantizeLinear" not in operators
    assert OnnxPredictor(tmp_path / "f.onnx").info.imgsz == (IMGSZ, IMGSZ)


def export(checkpoint: Path, path: Path, **settings: bool | int) -> Path:
    export_onnx(load_checkpoint(checkpoint), path, ExportConfig(imgsz=IMGSZ, **settings))
    return path


def test_a_skip_that_the_file_leaves_float_is_found(
    tiny_checkpoint: Path, tiny_onnx: Path, batches: list[Batch], tmp_path: Path
) -> None:
    model = onnx.load(tiny_onnx)
    made = {node.output[0]: node for node in model.graph.node}
    add = next(node for node in model.graph.node if node.op_type == "Add" and node.input[0].endswith("/dequantized"))
    assert add.input[0] == "model.2.m.0.cv1.conv/input/dequantized"  # the pair of the block's first convolution
    add.input[0] = made[made[add.input[0]].input[0]].input[0]
    onnx.save(model, tmp_path / "m.onnx")
    nodes = node_parity(load_checkpoint(tiny_checkpoint), tmp_path / "m.onnx", batches, threads=1)
    assert [node.layer for node in nodes if node.share > 0.001] == ["model.2.cv2.conv"]


def test_half_stays_within_a_step(tiny_checkpoint: Path, batches: list[Batch], tmp_path: Path) -> None:
    path = export(tiny_checkpoint, tmp_path / "h.onnx", half=True)
    nodes = node_parity(load_checkpoint(tiny_checkpoint), path, batches, threads=1)
    assert max(node.max_steps for node in nodes) == 1
    assert 0.0 < max(node.share for node in nodes) <= 0.05
    assert lint_export(path)["lint"]["errors"] == 0


def test_suppression_in_the_graph_scores_as_suppression_outside(
    tiny_checkpoint: Path, tiny_onnx: Path, dataset: DetectionDataset, tmp_path: Path
) -> None:
    inside = OnnxPredictor(export(tiny_checkpoint, tmp_path / "n.onnx", nms=True), threads=1)
    assert inside.info.end2end
    found = evaluate(inside, dataset, ONE).metrics
    assert found.map50_95 == pytest.approx(evaluate(OnnxPredictor(tiny_onnx, threads=1), dataset, ONE).metrics.map50_95)
    assert found.map50_95 > 0.3


def test_an_open_batch_gives_what_single_images_give(
    tiny_checkpoint: Path, tiny_onnx: Path, batches: list[Batch], tmp_path: Path
) -> None:
    path = export(tiny_checkpoint, tmp_path / "d.onnx", dynamic=True)
    single, open_ = OnnxPredictor(tiny_onnx, threads=1), OnnxPredictor(path, threads=1)
    assert open_.info.batch is None
    together = open_(np.concatenate([batch.images for batch in batches]))[0]
    for image, batch in zip(together, batches, strict=True):
        np.testing.assert_allclose(image, single(batch.images)[0][0], atol=1e-3)
    nodes = node_parity(load_checkpoint(tiny_checkpoint), path, batches, threads=1)
    assert max(node.max_steps for node in nodes) <= 1
    head = load_checkpoint(tiny_checkpoint).module.model[-1]
    assert "dynamic" not in vars(head)


@pytest.mark.parametrize("settings", [{"dynamic": True}, {"dynamic": True, "nms": True}, {"half": True}])
def test_ultralytics_predicts_and_validates(
    tiny_checkpoint: Path, tiny_data: TinyData, tmp_path: Path, settings: dict[str, bool]
) -> None:
    """Rectangular images, more of them than the batch, and its validation: the defaults feed rectangles to open sizes."""
    path = export(tiny_checkpoint, tmp_path / "model.onnx", **settings)
    model = ultralytics_module("models.yolo.model").YOLO(str(path), task="detect")
    wide = np.zeros((20, 60, 3), np.uint8)
    assert len(model.predict([wide, wide, wide], batch=3, verbose=False)) == 3
    data = tmp_path / "data.yaml"
    data.write_text(f"{tiny_data.yaml.read_text()}\npath: {tiny_data.yaml.parent}\n")
    found = model.val(data=str(data), batch=2, plots=False, verbose=False, project=str(tmp_path), workers=0)
    assert found.box.map > 0.3


@pytest.mark.parametrize(
    ("change", "told"),
    [({"end2end": True}, "gives one box per object"), ({"task": "obb"}, "is for the task 'obb'")],
)
def test_suppression_that_has_no_place_is_refused(
    tiny_model: Path, tmp_path: Path, change: dict[str, object], told: str
) -> None:
    detector = load_detector(tiny_model)
    detector.info = replace(detector.info, **change)
    with pytest.raises(ConfigError, match=rf"nms is True and '.*tiny\.pt' {told}"):
        export_onnx(detector, tmp_path / "m.onnx", ExportConfig(imgsz=IMGSZ, nms=True))
    assert not (tmp_path / "m.onnx").exists()


def test_opencv_reads_the_file_by_its_classic_engine(tiny_onnx: Path, batches: list[Batch]) -> None:
    """Its new engine takes a max-pool behind a dequantizer for one of integers and stops (5.0.0); see docs/deployment.md."""
    cv2 = pytest.importorskip("cv2", minversion="4.11")
    net = cv2.dnn.readNetFromONNX(str(tiny_onnx), cv2.dnn.ENGINE_CLASSIC)
    net.setInput(batches[0].images)
    expected = OnnxPredictor(tiny_onnx, threads=1)(batches[0].images)[0]
    np.testing.assert_allclose(net.forward(), expected, atol=0.2)  # rounding to the next code
