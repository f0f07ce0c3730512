from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yoloqat.pipeline.run import Run
from yoloqat.pipeline.stages import Stages

MakeRun = Callable[..., Run]


class Work:
    def __init__(self, value: Any = 1) -> None:
        self.value, self.done = value, 0

    def __call__(self, folder: Path) -> dict[str, Any]:
        self.done += 1
        (folder / "file").write_text("whole")
        return {"value": self.value}


def test_a_finished_stage_is_found_again(make_run: MakeRun) -> None:
    work, run = Work([0.1, math.nan]), make_run()
    first, folder = Stages(run, {"model": "a"}).once("one", work, setting=3)
    second, again = Stages(run, {"model": "a"}).once("one", work, setting=3)
    assert (work.done, first, second) == (1, {"value": [0.1, None]}, {"value": [0.1, None]})
    assert folder == again
    assert (folder / "file").read_text() == "whole"


@pytest.mark.parametrize(("inputs", "before", "setting"), [("b", 1, 3), ("a", 2, 3), ("a", 1, 4)])
def test_a_stage_depends_on_its_settings_and_on_all_before_it(
    make_run: MakeRun, inputs: str, before: int, setting: int
) -> None:
    work, run = Work(), make_run()

    def walk(inputs: str, before: int, setting: int) -> None:
        stages = Stages(run, {"model": inputs})
        stages.once("before", Work(), setting=before)
        stages.once("after", work, setting=setting)

    walk("a", 1, 3)
    walk(inputs, before, setting)
    assert work.done == 2


def test_a_stage_that_was_cut_short_is_done_again(make_run: MakeRun) -> None:
    run = make_run()

    def broken(folder: Path) -> dict[str, Any]:
        (folder / "file").write_text("hal")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(run, {}).once("one", broken)
    work = Work()
    _, folder = Stages(run, {}).once("one", work)
    assert (work.done, (folder / "file").read_text()) == (1, "whole")
    (folder / "stage.json").write_text("{")
    Stages(run, {}).once("one", work)
    assert work.done == 2
