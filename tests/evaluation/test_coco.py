from __future__ import annotations

import json

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yoloqat.evaluation import score
from yoloqat.evaluation.coco import metrics_of, run_cocoeval, unscored

CATEGORIES = {0: 0, 1: 7, 2: 14}
KEYS = ("map50_95", "map50", "map75", "map_small", "map_medium", "map_large")


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_pycocotools_run_by_hand_on_files(problem, tmp_path, seed):
    dataset, detections = problem(seed, images=12)
    (tmp_path / "labels.json").write_text(json.dumps(dataset.annotations | {"info": {}}))
    (tmp_path / "results.json").write_text(json.dumps(detections.to_coco(CATEGORIES)))
    truth = COCO(str(tmp_path / "labels.json"))
    evaluator = COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    metrics = score(dataset, detections, dataset.names).metrics
    found = [getattr(metrics, key) for key in KEYS]
    assert [-1 if value is None else value for value in found] == evaluator.stats[:6].tolist()


def test_nothing_is_printed(problem, capsys):
    dataset, detections = problem(0)
    run_cocoeval(dataset, detections.to_coco(CATEGORIES))
    assert capsys.readouterr().out == ""


def test_what_has_no_object_is_none_and_json_takes_it(problem):
    dataset, _ = problem(1, images=2)
    objects = [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": [0.0, 0.0, 9.0, 9.0], "area": 81.0, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 14, "bbox": [0.0, 0.0, 9.0, 9.0], "area": 81.0, "iscrowd": 1},
    ]
    dataset.annotations["annotations"][:] = objects
    result = metrics_of(run_cocoeval(dataset, []), dataset).to_dict()
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["map50_95"] == result["map_small"] == 0.0
    assert result["map_medium"] is None
    assert result["map_large"] is None
    assert result["images"] == 2
    assert result["per_class"] == {
        "cat": {"map50_95": None, "map50": None, "annotations": 0},
        "dog": {"map50_95": 0.0, "map50": 0.0, "annotations": 1},
        "owl": {"map50_95": None, "map50": None, "annotations": 0},
    }


def test_the_mean_over_classes_is_the_map(problem):
    dataset, detections = problem(3, images=12)
    metrics = score(dataset, detections, dataset.names).metrics
    values = [entry["map50_95"] for entry in metrics.per_class.values() if entry["map50_95"] is not None]
    assert metrics.map50_95 == pytest.approx(sum(values) / len(values), abs=1e-12)


def test_no_detections_at_all_score_zero(problem, no_detections):
    dataset, _ = problem(3)
    assert score(dataset, no_detections(dataset), dataset.names).metrics.map50_95 == 0.0


def one_object(dataset, **values):
    entry = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [0.0, 0.0, 9.0, 9.0], "area": 81.0, "iscrowd": 0}
    dataset.annotations["annotations"][:] = [entry | values]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"iscrowd": 1}, "all 1 objects are crowds"),
        ({"area": -1}, "the area of none of 1 objects is from 0 to 1e+10, e.g. -1"),
        ({"area": 1e11}, "the area of none of 1 objects is from 0 to 1e+10, e.g. 100000000000.0"),
    ],
)
def test_a_metric_without_an_object_has_a_reason(problem, values, reason):
    dataset, _ = problem(1, images=2)
    one_object(dataset, **values)
    found = metrics_of(run_cocoeval(dataset, []), dataset)
    assert unscored(dataset) == reason
    assert found.undefined == dict.fromkeys(KEYS, reason)
    assert found.map50_95 is None


def test_a_size_without_an_object_has_a_reason_of_its_own(problem):
    dataset, _ = problem(1, images=2)
    one_object(dataset)
    found = metrics_of(run_cocoeval(dataset, []), dataset)
    assert unscored(dataset) is None
    assert found.undefined == dict.fromkeys(("map_medium", "map_large"), "no object of this size counts")
    dataset.annotations["annotations"].clear()
    assert unscored(dataset) == "the data set has no object"
