from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from forwards import CONFIG, Forwards, without_seconds
from tiny_detector import VALIDATION_IMAGES, TinyData

from yoloqat.config import MethodSpec
from yoloqat.datasets import DetectionDataset
from yoloqat.errors import DataError
from yoloqat.evaluation import evaluate, mean_average_precision, paired_difference, split_halves, subset
from yoloqat.evaluation.reference import Reference
from yoloqat.pipeline.compare import compare_methods
from yoloqat.pipeline.curve import settling_curve
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.tables import comparison_tables, methods_taken
from yoloqat.quant import activation_quantizers, quantization_disabled

METHODS = [MethodSpec("max"), MethodSpec("percentile", 99.9), MethodSpec("percentile", 99.0)]
MakeRun, MakePtq = Callable[..., Run], Callable[..., Ptq]


def test_rows_stand_in_the_order_asked_beside_the_float_model(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    ptq = make_ptq(make_run())
    found = compare_methods(ptq, dataset, METHODS, CONFIG, run=make_run())
    assert [(row["method"], row["params"]) for row in found["methods"]] == [
        ("max", {}),
        ("percentile", {"percentile": 99.9}),
        ("percentile", {"percentile": 99.0}),
    ]
    assert found["baseline"]["map50_95"] > 0.3
    assert found["baseline"]["images"] == VALIDATION_IMAGES
    for row in found["methods"]:
        low, high = row["drop_ci95"]
        assert row["drop"] == pytest.approx(found["baseline"]["map50_95"] - row["map50_95"], abs=1e-9)
        assert low <= high
        assert row["calibration_seconds"] == found["collection_seconds"] + row["search_seconds"]
        assert row["metrics"]["map50_95"] == row["map50_95"]
    assert len({row["map50_95"] for row in found["methods"]}) == len(METHODS)
    assert (found["quantized_layers"], found["calibration_images"]) == (len(ptq.layers), 4)


def test_one_pass_collects_for_all_methods(make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset) -> None:
    ptq = make_ptq(make_run())
    forwards = Forwards(ptq)
    compare_methods(ptq, dataset, METHODS, CONFIG, run=make_run())
    assert forwards.collecting == 2  # 4 images by 2
    each_twice = 2 * VALIDATION_IMAGES / CONFIG.batch  # for the mAP and for the noise
    assert forwards.others == (1 + len(METHODS)) * each_twice


def test_rows_are_what_each_method_alone_gives(make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset) -> None:
    together = compare_methods(make_ptq(make_run()), dataset, METHODS, CONFIG, run=make_run())
    for method, row in zip(METHODS, together["methods"], strict=True):
        ptq = make_ptq(make_run("alone"))
        ptq.apply(method)
        assert evaluate(ptq.predictor, dataset, CONFIG).metrics.map50_95 == row["map50_95"]


def test_a_winner_is_chosen_on_one_half_and_measured_on_the_other(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    found = compare_methods(make_ptq(make_run()), dataset, METHODS, CONFIG, run=make_run(), seed=3)
    first, second = split_halves(VALIDATION_IMAGES, 3)
    ptq = make_ptq(make_run("again"))
    matches, noises = {}, {}
    with quantization_disabled(ptq.detector.module):
        floating = evaluate(ptq.predictor, dataset, CONFIG).matches
        reference = Reference(ptq.predictor, dataset.images, CONFIG)
    for method in METHODS:
        ptq.apply(method)
        matches[str(method)] = evaluate(ptq.predictor, dataset, CONFIG).matches
        noises[str(method)] = reference.compare(ptq.predictor).measures["d"]

    def part(name: str, half: np.ndarray) -> float:
        return float(mean_average_precision(subset(matches[name], half))[0])

    highest = max(matches, key=lambda name: part(name, first))
    halved = {name: subset(own, first) for name, own in matches.items()}
    level = [name for name in halved if paired_difference(halved[highest], halved[name], seed=3).low <= 0]
    best = min(level, key=lambda name: noises[name][first].mean())
    assert found["confirmed"]["method"] == best
    assert found["confirmed"]["d"] == pytest.approx(noises[best][second].mean())
    assert found["confirmed"]["images"] == second.sum() == 5
    expected = float(mean_average_precision(subset(floating, second))[0]) - part(best, second)
    assert found["confirmed"]["drop"] == pytest.approx(expected, abs=1e-12)
    low, high = found["confirmed"]["drop_ci95"]
    assert low <= high


def test_the_best_is_the_highest_and_ties_are_those_it_does_not_beat(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    methods = [*METHODS, MethodSpec("percentile", 20.0)]
    found = compare_methods(make_ptq(make_run()), dataset, methods, CONFIG, run=make_run())
    rows = {str(method): row for method, row in zip(methods, found["methods"], strict=True)}
    assert found["best"] == max(rows, key=lambda name: rows[name]["map50_95"])
    best = rows[found["best"]]
    for name, row in rows.items():
        assert row["behind_best"] == pytest.approx(best["map50_95"] - row["map50_95"], abs=1e-9)
        low, high = row["behind_best_ci95"]
        assert low <= row["behind_best"] <= high
        assert (name in found["tied"]) == (low <= 0 and name != found["best"])
    assert "percentile-20" not in found["tied"], "a method that erases the model is beaten"


def test_per_layer_says_what_each_quantizer_took(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    ptq = make_ptq(make_run())
    found = compare_methods(ptq, dataset, [MethodSpec("per-layer")], CONFIG, run=make_run())
    taken = found["methods"][0]["per_layer"]
    assert sum(methods_taken(taken).values()) == len(taken) == found["activation_quantizers"]
    assert all(entry["errors"][entry["method"]] == min(entry["errors"].values()) for entry in taken.values())
    assert ptq.detector.quantization.calibration["per-layer"] == {
        name: entry["method"] for name, entry in taken.items()
    }
    for _, name in zip(range(3), taken, strict=False):
        histogram = ptq.statistics.histograms[name]
        amax = histogram.compute_amax(MethodSpec.parse(taken[name]["method"]))
        assert float(dict(activation_quantizers(ptq.detector.module))[name].amax) == pytest.approx(amax)


def test_a_method_without_loss_has_an_interval_of_zero(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    ptq = make_ptq(make_run())
    ptq.apply(MethodSpec("max"))  # disabled quantizers would collect nothing
    with quantization_disabled(ptq.detector.module):
        found = compare_methods(ptq, dataset, [MethodSpec("max")], CONFIG, run=make_run())
    assert (found["methods"][0]["drop"], found["methods"][0]["drop_ci95"]) == (0.0, [0.0, 0.0])


@pytest.mark.parametrize("labelled", [1, 2])
def test_a_half_without_objects_leaves_the_choice_unconfirmed(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset, labelled: int
) -> None:
    first, second = split_halves(VALIDATION_IMAGES, 0)
    half = first if labelled == 1 else second
    with_objects = [record.image_id for record, mine in zip(dataset.images, half, strict=True) if mine]
    annotations = [entry for entry in dataset.annotations["annotations"] if entry["image_id"] in with_objects]
    part = replace(dataset, annotations={**dataset.annotations, "annotations": annotations})
    found = compare_methods(make_ptq(make_run()), part, METHODS, CONFIG, run=make_run())
    assert found["confirmed"] is None
    rows = {str(method): row["map50_95"] for method, row in zip(METHODS, found["methods"], strict=True)}
    assert rows[found["best"]] == max(rows.values())


def test_a_single_image_leaves_the_choice_unconfirmed(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset, tiny_data: TinyData, tmp_path: Path
) -> None:
    first = dataset.annotations["annotations"][0]["image_id"]
    only = next(record for record in dataset.images if record.image_id == first)
    annotations = [entry for entry in dataset.annotations["annotations"] if entry["image_id"] == only.image_id]
    content = {**dataset.annotations, "annotations": annotations}
    content["images"] = [entry for entry in dataset.annotations["images"] if entry["id"] == only.image_id]
    found = compare_methods(
        make_ptq(make_run()), replace(dataset, images=(only,), annotations=content), METHODS, CONFIG, run=make_run()
    )
    assert found["confirmed"] is None
    assert found["best"] in {str(method) for method in METHODS}


def test_a_data_set_on_which_nothing_can_be_compared_is_refused_before_the_work(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    objects = [entry | {"iscrowd": 1} for entry in dataset.annotations["annotations"]]
    crowds = replace(dataset, annotations=dataset.annotations | {"annotations": objects})
    ptq = make_ptq(make_run())
    forwards = Forwards(ptq)
    with pytest.raises(DataError, match=f"no mAP can be compared on .*: all {len(objects)} objects are crowds"):
        compare_methods(ptq, crowds, METHODS, CONFIG, run=make_run())
    with pytest.raises(DataError, match=f"all {len(objects)} objects are crowds"):
        settling_curve(ptq, METHODS[0], [2, 4], CONFIG, run=make_run(), dataset=crowds)
    assert (forwards.collecting, forwards.others) == (0, 0)


def test_one_image_has_drops_but_no_intervals(make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset) -> None:
    number = dataset.annotations["annotations"][0]["image_id"]
    own = {
        "images": [entry for entry in dataset.annotations["images"] if entry["id"] == number],
        "annotations": [entry for entry in dataset.annotations["annotations"] if entry["image_id"] == number],
    }
    images = tuple(record for record in dataset.images if record.image_id == number)
    alone = replace(dataset, images=images, annotations=dataset.annotations | own)
    found = compare_methods(make_ptq(make_run()), alone, METHODS[:1], CONFIG, run=make_run())
    (row,) = found["methods"]
    assert row["drop"] == pytest.approx(found["baseline"]["map50_95"] - row["map50_95"])
    assert row["drop_ci95"] is None
    assert row["drop_ci95_reason"] == "one image does not tell how images differ"
    assert found["confirmed"] is None


def test_the_least_noise_of_those_that_map_ties_is_recommended(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    methods = [*METHODS, MethodSpec("percentile", 20.0)]
    found = compare_methods(make_ptq(make_run()), dataset, methods, CONFIG, run=make_run())
    rows = {str(method): row for method, row in zip(methods, found["methods"], strict=True)}
    level = [found["best"], *found["tied"]]
    assert found["recommended"] == min(level, key=lambda name: rows[name]["d"])
    assert rows["percentile-20"]["d"] > 0.3 > rows[found["recommended"]]["d"] > 0
    assert rows[found["recommended"]]["d_behind_recommended"] == 0.0
    low, high = rows["percentile-20"]["d_behind_recommended_ci95"]
    assert 0 < low < rows["percentile-20"]["d_behind_recommended"] < high
    assert found["separated"]["pairs"] == 6
    assert 3 <= found["separated"]["by_noise"] <= 6, "at least the erasing method is told from all others"
    for row in rows.values():
        assert row["d_ci95"][0] <= row["d"] <= row["d_ci95"][1]


def test_images_without_labels_suffice(make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset) -> None:
    images = dataset.images[:6]
    labelled = compare_methods(make_ptq(make_run()), dataset, METHODS, CONFIG, run=make_run(), images=images)
    run = make_run("unlabelled")
    found = compare_methods(make_ptq(run), None, METHODS, CONFIG, run=run, images=images)
    assert found["baseline"] is None
    assert [row["map50_95"] for row in found["methods"]] == [None] * 3
    assert [row["d"] for row in found["methods"]] == [row["d"] for row in labelled["methods"]]
    assert found["best"] == found["recommended"] == min(found["methods"], key=lambda row: row["d"])["method"]
    assert found["confirmed"]["images"] == 3
    assert found["fidelity_images"] == 6
    table = str(comparison_tables("tiny", found)[0])
    assert "recommended" in table
    assert "mAP50-95" not in table


def test_the_noise_is_read_again_after_an_interruption(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    first = compare_methods(make_ptq(make_run()), None, METHODS, CONFIG, run=make_run(), images=dataset.images)
    ptq = make_ptq(make_run())
    forwards = Forwards(ptq)
    again = compare_methods(ptq, None, METHODS, CONFIG, run=make_run(), images=dataset.images)
    assert forwards.others == VALIDATION_IMAGES / CONFIG.batch  # of the float model alone
    assert without_seconds(again) == without_seconds(first)


def test_a_method_named_twice_counts_once(make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset) -> None:
    methods = [MethodSpec("max"), MethodSpec("max")]
    found = compare_methods(make_ptq(make_run()), None, methods, CONFIG, run=make_run(), images=dataset.images)
    assert [row["method"] for row in found["methods"]] == ["max"]
