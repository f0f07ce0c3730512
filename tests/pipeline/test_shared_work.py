"""Work that two processes share gives the numbers of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from forwards import CONFIG, Forwards, without_seconds

from yoloqat.config import MethodSpec
from yoloqat.datasets import DetectionDataset
from yoloqat.pipeline.compare import compare_methods
from yoloqat.pipeline.noise_mode import run_noise_budget
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.sensitivity.settings import NOISE, ScanConfig

METHODS = [MethodSpec("max"), MethodSpec("percentile", 99.0)]
BLOCKS = ScanConfig(mode=NOISE, granularity="block")
MakeRun, MakePtq = Callable[..., Run], Callable[..., Ptq]


@pytest.mark.slow
def test_compare_and_noise_budget_of_two_processes_are_those_of_one(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset, tiny_checkpoint: Path
) -> None:
    def budget(run: Run) -> object:
        return run_noise_budget(
            tiny_checkpoint, dataset.images[:4], CONFIG, scan=BLOCKS, options=ScanOptions(top=3), run=run
        )

    forwards = []

    def compared(run: Run) -> object:
        ptq = make_ptq(run, images=8)
        forwards.append(Forwards(ptq))
        return compare_methods(ptq, dataset, METHODS, CONFIG, run=run, refine=("bias",))

    alone = make_run("alone")
    with make_run("shared").pooled(2) as shared:
        found = [without_seconds(work(shared)) for work in (budget, compared)]
    expected = [without_seconds(work(alone)) for work in (budget, compared)]
    assert found[0] == expected[0]
    for one in (found, expected):
        del one[1]["histograms"]  # a path
    assert found[1] == expected[1]
    assert forwards[0].others < forwards[1].others, "what is left here are those of the refinement"
    parts = {path.name for path in (shared.out / ".parts").rglob("*.npz")}
    assert parts == {path.name for path in (alone.out / ".parts").rglob("*.npz")}
