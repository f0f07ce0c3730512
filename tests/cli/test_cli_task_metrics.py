import json

import pytest
import yaml

from yoloqat.cli import main
from yoloqat.config import EvalConfig
from yoloqat.datasets import load_dataset, task_labels
from yoloqat.errors import ConfigError
from yoloqat.pipeline.task_metrics import score_task
from yoloqat.predictor import ModelInfo


@pytest.fixture
def few(real_dir, tmp_path):
    """Twelve real images whose objects all have masks, with COCO's own json."""
    whole = load_dataset(real_dir / "coco" / "coco_val.yaml")
    chosen = list(task_labels(whole, "segment", whole.names))[:12]
    (tmp_path / "val.txt").write_text("\n".join(str(record.path) for record in chosen))
    (tmp_path / "annotations").mkdir()
    source = real_dir / "coco" / "annotations" / "instances_val2017_exact.json"
    (tmp_path / "annotations" / "instances_val.json").symlink_to(source)
    description = tmp_path / "few.yaml"
    description.write_text(yaml.safe_dump({"train": "val.txt", "val": "val.txt", "names": whole.names}))
    return description


@pytest.mark.real
def test_eval_adds_the_masks_of_a_segmentation_model(few, real_dir, tmp_path):
    out, weights = tmp_path / "out", real_dir / "weights" / "yolov8n-seg.pt"
    arguments = ["--data", str(few), "--imgsz", "320", "--task-metrics", "--threads", "1", "--out", str(out)]
    assert main(["eval", str(weights), *arguments]) == 0
    results = json.loads((out / "result.json").read_text())["results"]
    found = results["task_metrics"]
    assert (found["task"], found["images"], results["images"]) == ("segment", 12, 12)
    assert 0.1 < found["mask_map50_95"] < found["mask_map50"]
    # two implementations of one metric on the same detections
    assert found["box_map50_95"] == pytest.approx(results["map50_95"], abs=0.05)


def test_eval_of_boxes_alone_has_no_task_metrics(tiny_model, tiny_data, tmp_path, capsys):
    arguments = ["--data", str(tiny_data.yaml), "--imgsz", "64", "--task-metrics", "--threads", "1"]
    assert main(["eval", str(tiny_model), *arguments, "--out", str(tmp_path)]) == 2
    assert "the model's task is 'detect'" in capsys.readouterr().err


def test_rectangular_batches_are_refused(tiny_data):
    class Any:
        info = ModelInfo({0: "disc", 1: "box", 2: "star"}, task="obb")

    with pytest.raises(ConfigError, match="rect is True for the metrics of the task 'obb'"):
        score_task(Any(), load_dataset(tiny_data.yaml), EvalConfig(imgsz=64, rect=True))
