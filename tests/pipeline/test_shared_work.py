"""Work that two processes share gives the numbers of one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forwards import CONFIG, Forwards, without_seconds

from yoloqat.config import MethodSpec
from yoloqat.datasets import DetectionDataset
from yoloqat.errors import DataError
from yoloqat.parallel.pool import Pool, opened_pool
from yoloqat.pipeline.compare import compare_methods
from yoloqat.pipeline.noise_mode import run_noise_budget
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.search_engines import Engines
from yoloqat.pipeline.search_torch import SearchedCheckpoint
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.sensitivity.settings import NOISE, ScanConfig

METHODS = [MethodSpec("max"), MethodSpec("percentile", 99.0)]
BLOCKS = ScanConfig(mode=NOISE, granularity="block")
MakeRun, MakePtq = Callable[..., Run], Callable[..., Ptq]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    """Two workers, which begin as copies of a process that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["yoloqat.pipeline.shards", "ultralytics.nn.tasks"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda method: context)
        with opened_pool(2, None, device="cpu", threads=1) as pool:
            yield pool


def test_a_noise_budget(make_run: MakeRun, dataset: DetectionDataset, tiny_checkpoint: Path, pool: Pool) -> None:
    def budget(run: Run) -> Any:
        options = ScanOptions(top=3)
        return run_noise_budget(tiny_checkpoint, dataset.images[:3], CONFIG, scan=BLOCKS, options=options, run=run)

    shared = budget(replace(make_run("shared"), pool=pool))
    assert without_seconds(shared) == without_seconds(budget(make_run("alone")))


def test_a_comparison(make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset, pool: Pool) -> None:
    def compared(run: Run) -> tuple[Any, int]:
        ptq = make_ptq(run, images=8)
        forwards = Forwards(ptq)
        found = compare_methods(ptq, dataset, METHODS, CONFIG, run=run, refine=("bias",))
        del found["histograms"]  # a path
        return without_seconds(found), forwards.others

    one, other = replace(make_run("shared"), pool=pool), make_run("alone")
    (shared, some), (alone, all_forwards) = compared(one), compared(other)
    assert shared == alone
    assert some < all_forwards, "those of the refinement are left here"
    kept = [{path.relative_to(run.out) for path in run.out.rglob(".parts/**/*.npz")} for run in (one, other)]
    assert kept[0] == kept[1], "an interrupted comparison goes on with another number of workers"


@pytest.mark.parametrize("measurable", [True, False], ids=["engine", "checkpoint"])
def test_a_float_set(
    make_run: MakeRun, dataset: DetectionDataset, tiny_checkpoint: Path, pool: Pool, measurable: bool
) -> None:
    def noise(run: Run) -> Any:
        engines = Engines(SearchedCheckpoint(tiny_checkpoint, run), CONFIG, run=run, rounds=1)
        engines.measurable = measurable
        reference = run.reference(engines.float_predictor, dataset.images[:3], engines.config, file=engines.float_file)
        layers = engines.layers[:2]
        model: Any = engines.predictor(layers) if run.pool is None else engines.file(layers)  # built once
        return reference.compare(model).measures

    shared, alone = noise(replace(make_run(), pool=pool)), noise(make_run())
    assert shared.keys() == alone.keys()
    for name, values in alone.items():
        np.testing.assert_array_equal(shared[name], values)


def test_what_cannot_be_shared_is_told_here(
    make_run: MakeRun, dataset: DetectionDataset, tiny_checkpoint: Path, pool: Pool
) -> None:
    run = replace(make_run(), pool=pool)
    engines = Engines(SearchedCheckpoint(tiny_checkpoint, run), CONFIG, run=run, rounds=1)
    with pytest.raises(DataError, match="there are 0 images to compare models on"):
        run.reference(engines.float_predictor, (), engines.config, file=engines.float_file)
    reference = run.reference(engines.float_predictor, dataset.images[:1], engines.config, file=engines.float_file)
    with pytest.raises(TypeError, match="some model has no file that the workers can open"):
        run.fidelity(reference, engines.float_predictor, label="some model", model_key={})
    gone = replace(dataset.images[0], path=Path("gone.png"))
    reference = run.reference(engines.float_predictor, [gone], engines.config, file=engines.float_file)
    with pytest.raises(DataError, match=r"gone\.png"):
        reference.compare(engines.float_file)
