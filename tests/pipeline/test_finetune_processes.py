"""Two processes that train together on the CPU."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from tiny_detector import IMGSZ, NAMES, TinyData

from yoloqat.cli import execute, main
from yoloqat.config import EvalConfig
from yoloqat.datasets import load_dataset
from yoloqat.detectors import load_detector, torch_threads
from yoloqat.detectors.ultralytics_import import environment_kept
from yoloqat.finetuning import LAST, CheckpointManager, EpochRow, Figures, FinetuneConfig, LossWeights, TrainingState
from yoloqat.finetuning.distill import float_teacher
from yoloqat.finetuning.group import Group
from yoloqat.finetuning.training_data import training_file
from yoloqat.finetuning.ultralytics import finetune_ultralytics
from yoloqat.pipeline.finetune import float_detector
from yoloqat.pipeline.finetune_processes import Job
from yoloqat.progress import Progress, silent
from yoloqat.quant import state_digest

CONFIG = FinetuneConfig(epochs=2, batch=4, imgsz=IMGSZ, lr0=1e-3, learn_amax=True, processes=2)


def place(jobs: list[Job], rank: int) -> None:
    """Be one of the processes and write down the weights that each training ends with."""
    for job in jobs:
        with torch_threads(1):
            detector = job.train(Group(rank, 2, job.out / "meeting"), silent)
        torch.save(detector.module.state_dict(), job.out / f"{rank}.pt")


def together(jobs: list[Job]) -> None:
    """Train in two processes, one job after the other: a process takes longer to start than a job to run."""
    context = multiprocessing.get_context("spawn")
    running = []
    for rank in range(2):
        process = context.Process(target=place, args=(jobs, rank))
        with environment_kept(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2"):
            process.start()
        running.append(process)
    for process in running:
        process.join(300)
    assert [process.exitcode for process in running] == [0, 0]


def make_job(checkpoint: Path, data: Path, folder: Path, config: FinetuneConfig) -> Job:
    return Job(
        checkpoint=checkpoint,
        floating=None,
        file=training_file(data, folder / "data", NAMES),
        dataset=load_dataset(data),
        evaluation=EvalConfig(imgsz=IMGSZ, batch=4),
        config=config,
        out=folder,
        logs=folder / "training",
        threads=2,
        devices=("cpu", "cpu"),
        state=folder / "state.safetensors",
        rows=(EpochRow(0, 0.0, None, {}, "start"),),
    )


@pytest.fixture(scope="module")
def data(labelled: Path) -> Path:
    return labelled


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory, tiny_data: TinyData) -> Path:
    """A data set of eight times the same image."""
    folder = tmp_path_factory.mktemp("alike")
    labels = (tiny_data.images.parents[1] / "labels" / "val").glob("*.txt")
    label = max(sorted(labels), key=lambda path: len(path.read_text()))
    image = tiny_data.images / f"{label.stem}.png"
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for number in range(8):
        shutil.copy(image, folder / "images" / f"{number}.png")
        shutil.copy(label, folder / "labels" / f"{number}.txt")
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump({"train": "images", "val": "images", "path": str(folder), "names": NAMES}))
    return path


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, data: Path, alike: Path) -> tuple[Job, Job]:
    """A finished training and one on the same image eight times; their directories hold what each process ended with."""
    plain = ("fliplr=0", "hsv_h=0", "hsv_s=0", "hsv_v=0", "translate=0", "scale=0")
    # the one loss that is a mean over images, whatever they show; the head gets no gradient by it
    weights = LossWeights(task=0, outputs=0, features=5)
    config = replace(CONFIG, epochs=1, optimizer="SGD", lr0=1e-2, learn_amax=False, arguments=plain, weights=weights)
    trained = make_job(tiny_checkpoint, data, tmp_path_factory.mktemp("trained"), CONFIG)
    halves = make_job(tiny_checkpoint, alike, tmp_path_factory.mktemp("halves"), config)
    together([trained, halves])
    return trained, halves


@pytest.fixture(scope="module")
def trained(jobs: tuple[Job, Job]) -> Path:
    """The directory of a finished training, with what each process ended with."""
    return jobs[0].out


@pytest.mark.slow
def test_both_processes_hold_the_same_weights(tiny_checkpoint: Path, trained: Path) -> None:
    first, second = (torch.load(trained / f"{rank}.pt") for rank in range(2))
    start = load_detector(tiny_checkpoint).module.state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    moved = [name for name, value in first.items() if not torch.equal(value, start[name])]
    assert any(name.endswith(".weight") for name in moved)
    assert any(name.endswith("_amax") for name in moved)


@pytest.mark.slow
def test_two_halves_of_a_batch_move_the_weights_as_the_whole(
    tiny_checkpoint: Path, jobs: tuple[Job, Job], tmp_path: Path
) -> None:
    job = jobs[1]
    halves = torch.load(job.out / "0.pt")
    detector = load_detector(tiny_checkpoint)
    start = {name: value.clone() for name, value in detector.module.state_dict().items()}
    checkpoints = CheckpointManager(
        tmp_path / "whole", tmp_path / "whole" / "state.safetensors", lambda *_: Figures(0.0)
    )
    checkpoints.rows = list(job.rows)
    finetune_ultralytics(
        detector,
        job.file,
        replace(job.config, processes=1),
        checkpoints=checkpoints,
        folder=tmp_path / "whole" / "training",
        teacher=float_teacher(float_detector(load_detector(tiny_checkpoint)).module),
    )
    whole = detector.module.state_dict()
    apart = sum(float((halves[name] - value).square().sum()) for name, value in whole.items())
    moved = sum(float((start[name] - value).square().sum()) for name, value in whole.items())
    assert moved > 0
    assert apart < 0.01 * moved


def at_step(monkeypatch: pytest.MonkeyPatch, at: tuple[str, int], act: Callable[[], None]) -> None:
    """Do something when a step is told of."""

    @contextmanager
    def bars(console: object, *, times: bool = False) -> Iterator[Progress]:
        def progress(step: str, done: int, total: int) -> None:
            if (step, done) == at:
                act()

        yield progress

    monkeypatch.setattr(execute, "progress_bars", bars)


def kill_one() -> None:
    multiprocessing.active_children()[0].kill()


@pytest.mark.slow
def test_a_run_that_loses_a_process_goes_on_to_the_same_losses(
    tiny_checkpoint: Path,
    data: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    line = ["finetune", str(tiny_checkpoint), "--data", str(data), "--epochs", "2", "--batch", "4", "--lr0", "1e-3"]
    line += ["--learn-amax", "--processes", "2", "--threads", "2", "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        at_step(patch, ("train: epoch 2", 1), kill_one)
        capfd.readouterr()
        assert main(line) == 1
    told = capfd.readouterr().err.strip()
    assert "of 2 ended with code -9; expected processes that live to the end; type the same line" in told
    assert len(told.splitlines()) == 1
    assert not multiprocessing.active_children()
    assert not (tmp_path / "result.json").exists()
    assert main([*line, "--resume"]) == 0
    rows = json.loads((tmp_path / "result.json").read_text())["results"]["epochs"]
    assert state_digest(load_detector(tmp_path / LAST).module) == rows[-1]["weights"]
    state = TrainingState.load(trained / "state.safetensors")
    assert state is not None
    whole, kept = state.values["rows"][1:], ("epoch", "loss", "losses", "weights")
    assert [[row[key] for key in kept] for row in rows] == [[row[key] for key in kept] for row in whole]
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
