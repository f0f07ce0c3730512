from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from forwards import CONFIG, Forwards, without_seconds
from tiny_detector import VALIDATION_IMAGES, TinyData, make_data, make_module, save_module

from yoloqat.config import EvalConfig, MethodSpec
from yoloqat.datasets import DetectionDataset, calibration_images, load_dataset
from yoloqat.errors import DataError
from yoloqat.pipeline.compare import compare_methods
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run, dataset_hash, dataset_key, records_key

METHODS = [MethodSpec("max"), MethodSpec("percentile", 99.9), MethodSpec("percentile", 99.0)]
BATCHES = VALIDATION_IMAGES // CONFIG.batch
MakeRun, MakePtq = Callable[..., Run], Callable[..., Ptq]


def interrupt_in(label: str, after: int) -> Callable[[str, int, int], None]:
    def progress(step: str, done: int, total: int) -> None:
        if step == f"{label}: evaluate" and done >= after:
            raise KeyboardInterrupt

    return progress


def interrupted(make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset, *, after: int) -> None:
    run = make_run(progress=interrupt_in("percentile-99.9", after))
    with pytest.raises(KeyboardInterrupt):
        compare_methods(make_ptq(run), dataset, METHODS, CONFIG, run=run)


@pytest.mark.parametrize(("after", "kept_batches"), [(2, 0), (10, 4)])
def test_an_interrupted_comparison_goes_on_where_it_stopped(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset, after: int, kept_batches: int
) -> None:
    whole = compare_methods(make_ptq(make_run("whole")), dataset, METHODS, CONFIG, run=make_run("whole"))
    interrupted(make_run, make_ptq, dataset, after=after)
    ptq = make_ptq(make_run())
    forwards = Forwards(ptq)
    resumed = compare_methods(ptq, dataset, METHODS, CONFIG, run=make_run())
    assert without_seconds(resumed) == without_seconds(whole)
    assert forwards.collecting == 0
    # the float model's outputs, the rest of the third evaluation, and the noise and the evaluation of the fourth
    assert forwards.others == 4 * BATCHES - kept_batches


def test_parts_stay_until_they_are_forgotten(make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset) -> None:
    run = make_run()
    compare_methods(make_ptq(run), dataset, METHODS, CONFIG, run=run)
    ptq = make_ptq(run)
    forwards = Forwards(ptq)
    compare_methods(ptq, dataset, METHODS, CONFIG, run=run)
    assert (forwards.collecting, forwards.others) == (0, BATCHES), "the float model's outputs are not kept"
    run.forget_parts()
    assert [path.name.partition("-")[0] for path in run.out.iterdir()] == ["histograms"]  # a result, no part
    run.forget_parts()
    compare_methods(ptq, dataset, [METHODS[0]], CONFIG, run=run)
    assert forwards.others == BATCHES + 4 * BATCHES


def rerun(ptq: Ptq, dataset: DetectionDataset, config: EvalConfig, run: Run) -> tuple[int, int]:
    forwards = Forwards(ptq)
    compare_methods(ptq, dataset, METHODS, config, run=run)
    return forwards.collecting, forwards.others


@pytest.fixture
def finished(make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset) -> Run:
    """A run whose parts are all there."""
    run = make_run()
    compare_methods(make_ptq(run), dataset, METHODS, CONFIG, run=run)
    return run


SCORED, NOISE = 4 * BATCHES, 4 * BATCHES
"""Of the float model and three methods."""

ALL = SCORED + NOISE


def test_other_weights_reuse_nothing(
    finished: Run, make_ptq: MakePtq, dataset: DetectionDataset, tmp_path: Path
) -> None:
    other = save_module(make_module(seed=1), tmp_path / "tiny.pt")
    assert rerun(make_ptq(finished, model=other), dataset, CONFIG, finished) == (2, ALL)


@pytest.mark.parametrize(
    "change", [{"nms_iou": 0.6}, {"conf": 0.05}, {"max_det": 200}], ids=lambda change: next(iter(change))
)
def test_other_scoring_reuses_statistics_alone(
    finished: Run, make_ptq: MakePtq, dataset: DetectionDataset, change: dict[str, float]
) -> None:
    assert rerun(make_ptq(finished), dataset, replace(CONFIG, **change), finished) == (0, ALL)


def test_other_calibration_images_reuse_the_float_model_alone(
    finished: Run, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    assert rerun(make_ptq(finished, images=6), dataset, CONFIG, finished) == (3, ALL - BATCHES)


def test_another_scheme_reuses_statistics_and_the_float_model(
    finished: Run, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    from yoloqat.config import QuantScheme

    ptq = make_ptq(finished, activations=QuantScheme(bits=6), weights=QuantScheme(bits=6, axis=0, narrow_range=True))
    assert rerun(ptq, dataset, CONFIG, finished) == (0, ALL - BATCHES)


def test_other_layers_reuse_the_float_model_alone(finished: Run, make_ptq: MakePtq, dataset: DetectionDataset) -> None:
    assert rerun(make_ptq(finished, ignore=("model.0",)), dataset, CONFIG, finished) == (2, ALL - BATCHES)


def test_other_annotations_reuse_statistics_alone(finished: Run, make_ptq: MakePtq, dataset: DetectionDataset) -> None:
    annotations = {**dataset.annotations, "annotations": dataset.annotations["annotations"][1:]}
    assert rerun(make_ptq(finished), replace(dataset, annotations=annotations), CONFIG, finished) == (
        0,
        SCORED + BATCHES,
    )


def test_another_thread_count_reuses_statistics_alone(
    finished: Run, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    other = replace(finished, threads=2)
    assert rerun(make_ptq(other), dataset, CONFIG, other) == (0, ALL)


def test_damaged_parts_are_made_again(finished: Run, make_ptq: MakePtq, dataset: DetectionDataset) -> None:
    parts = [path for path in finished.out.rglob("*") if path.is_file()]
    assert len([path for path in parts if path.name.startswith("histograms-")]) == 1
    assert len(parts) == 1 + 4 * 2 + 3  # detections in two chunks, and the noise of three methods
    for path in parts:
        path.write_bytes(path.read_bytes()[:-30])
    assert rerun(make_ptq(finished), dataset, CONFIG, finished) == (2, ALL)


def test_the_keys_of_a_data_set_change_with_its_files(tiny_model: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path / "set", tiny_model, images=2)
    before = load_dataset(data.yaml)
    keys = [dataset_key(before)]
    assert dataset_key(load_dataset(data.yaml)) == keys[0]
    image = before.images[0].path
    os.utime(image, ns=(1, 1))
    keys.append(dataset_key(load_dataset(data.yaml)))
    status = image.stat()
    image.write_bytes(image.read_bytes() + b"\0")
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    keys.append(dataset_key(load_dataset(data.yaml)))
    label = data.yaml.parent / "labels" / "val" / "000.txt"
    label.write_text("0 0.5 0.5 0.2 0.2\n")
    keys.append(dataset_key(load_dataset(data.yaml)))
    data.yaml.write_text(data.yaml.read_text().replace("disc", "coin"))
    keys.append(dataset_key(load_dataset(data.yaml)))
    assert len(set(keys)) == len(keys)


def test_the_hash_of_a_data_set_is_of_what_it_holds(tiny_model: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path / "set", tiny_model, images=2)
    before = load_dataset(data.yaml)
    hashes = [dataset_hash(before)]
    shutil.copytree(data.yaml.parent, tmp_path / "copy")
    copied = load_dataset(tmp_path / "copy" / data.yaml.name)
    assert dataset_key(copied) != dataset_key(before)
    assert dataset_hash(copied) == hashes[0]
    image = before.images[0].path
    image.write_bytes(image.read_bytes() + b"\0")
    hashes.append(dataset_hash(load_dataset(data.yaml)))
    (data.yaml.parent / "labels" / "val" / "000.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    hashes.append(dataset_hash(load_dataset(data.yaml)))
    data.yaml.write_text(data.yaml.read_text().replace("disc", "coin"))
    hashes.append(dataset_hash(load_dataset(data.yaml)))
    assert len(set(hashes)) == len(hashes)
    image.unlink()
    with pytest.raises(DataError, match=f"cannot read '{image}'"):
        dataset_hash(before)


def test_the_key_of_calibration_images_changes_with_a_file(tiny_model: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path / "set", tiny_model, images=1)
    records = calibration_images(data.train, 3)
    before = records_key(records)
    assert records_key(calibration_images(data.train, 3)) == before
    os.utime(records[1].path, ns=(1, 1))
    assert records_key(records) != before
    assert records_key(records[:2]) != records_key(records)


def test_scoring_leaves_the_data_set_as_it_was(make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset) -> None:
    before = json.dumps(dataset.annotations)
    key = dataset_key(dataset)
    compare_methods(make_ptq(make_run()), dataset, METHODS[:1], CONFIG, run=make_run())
    assert (json.dumps(dataset.annotations), dataset_key(dataset)) == (before, key)


def test_parts_are_numbers_alone(finished: Run) -> None:
    for path in finished.out.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as file:
            assert all(file[name].dtype != object for name in file.files)


def test_a_run_names_its_steps(tmp_path: Path, tiny_data: TinyData) -> None:
    told: list[tuple[str, int, int]] = []
    run = Run(tmp_path, torch.device("cpu"), 1, lambda *step: told.append(step))
    run.labelled("max")("evaluate", 1, 2)
    assert told == [("max: evaluate", 1, 2)]
