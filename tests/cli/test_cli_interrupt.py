"""An interruption keeps what is finished; a check that fails says so."""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny_detector import TinyData

from yoloqat.cli import execute
from yoloqat.cli.commands import COMMANDS
from yoloqat.pipeline.run import Run
from yoloqat.progress import Progress

Cli = Callable[..., Any]


def seconds_off(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: seconds_off(entry) for key, entry in value.items() if not key.endswith("seconds")}
    return [seconds_off(entry) for entry in value] if isinstance(value, list) else value


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the user press ^C as soon as a step is told of."""

    def arm(step_named: str) -> None:
        @contextmanager
        def bars(console: object, *, times: bool = False) -> Iterator[Progress]:
            def progress(step: str, done: int, total: int) -> None:
                if step == step_named:
                    raise KeyboardInterrupt

            yield progress

        monkeypatch.setattr(execute, "progress_bars", bars)

    return arm


def test_an_interrupted_comparison_is_resumed_by_the_line_it_prints(
    cli: Cli,
    tiny_model: Path,
    tiny_data: TinyData,
    tmp_path: Path,
    interrupt_at: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = ("compare", tiny_model, "--data", tiny_data.yaml, "--calib-images", 3, "--methods", "max,percentile-99")
    whole = cli(*line, out=tmp_path / "whole").result["results"]
    with monkeypatch.context() as patched:
        interrupt_at("percentile-99: evaluate")
        ran = cli(*line)
        assert (ran.code, ran.out) == (130, "")
        told = ran.err.strip()
        assert len(told.splitlines()) == 1
        assert told.startswith("yoloqat compare: interrupted; finished parts are kept, go on with: yoloqat compare ")
        assert told.endswith(f"--threads 1 --out {ran.directory}")
        assert "result.json" not in ran.files
        patched.undo()
    monkeypatch.undo()
    kept = [name for name in ran.files if name.endswith(".npz")]
    assert len(kept) == 4  # scores of float and max, noise of max and percentile-99; the statistics were found beside
    stamps = {name: (ran.directory / name).stat().st_mtime_ns for name in kept}
    forget = Run.forget_parts
    seen: list[bool] = []

    def forget_parts(run: Any) -> None:
        seen.append((run.out / "result.json").is_file())
        assert {name: (run.out / name).stat().st_mtime_ns for name in kept} == stamps
        forget(run)

    monkeypatch.setattr(Run, "forget_parts", forget_parts)
    again = cli(*line)
    assert (again.code, seen, again.files) == (0, [True], ["report.html", "result.json"])
    assert seconds_off(again.result["results"]) == seconds_off(whole)


@pytest.mark.parametrize("step", ["model.safetensors: evaluate", "calibrate: amax by max", "bench"])
def test_an_interruption_leaves_no_result(
    cli: Cli,
    tiny_model: Path,
    tiny_checkpoint: Path,
    tiny_data: TinyData,
    interrupt_at: Callable[[str], None],
    step: str,
) -> None:
    lines: dict[str, tuple[object, ...]] = {
        "model.safetensors: evaluate": ("eval", tiny_checkpoint, "--data", tiny_data.yaml),
        "calibrate: amax by max": (
            *("calibrate", tiny_model, "--method", "max", "--calib-images-dir", tiny_data.train),
            *("--calib-images", 2),
        ),
        "bench": ("bench", tiny_model, "--rounds", 1),
    }
    interrupt_at(step)
    ran = cli(*lines[step])
    assert ran.code == 130
    assert "Traceback" not in ran.err
    assert not [name for name in ran.files if Path(name).suffix in (".json", ".safetensors")]


def test_parts_stay_when_the_result_cannot_be_written(
    cli: Cli, tiny_model: Path, tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("eval", tiny_model, "--data", tiny_data.yaml)
    with monkeypatch.context() as patched:
        replace = os.replace

        def full(source: str, target: str) -> None:
            if str(target).endswith("result.json"):
                raise OSError(28, "No space left on device")
            replace(source, target)

        patched.setattr(os, "replace", full)
        ran = cli(*line)
    assert ran.code == 2
    assert [name for name in ran.files if name.endswith(".npz")]
    assert not [name for name in ran.files if name.endswith(".json")]
    assert cli(*line).files == ["report.html", "result.json"]


def test_a_planted_defect_fails_the_check_and_is_named(
    cli: Cli, tiny_checkpoint: Path, tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = importlib.import_module("yoloqat.pipeline.export_check")
    right = export.export_onnx

    def wrong(detector: Any, path: Path, config: Any) -> Any:
        report = right(detector, path, config)
        model = onnx.load(path)
        made = {node.output[0]: node for node in model.graph.node}
        node = next(node for node in model.graph.node if node.name == "model.0.conv")
        scale = next(t for t in model.graph.initializer if t.name == made[node.input[1]].input[1])
        scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.3), scale.name))
        onnx.save(model, path)
        return report

    monkeypatch.setattr(export, "export_onnx", wrong)
    ran = cli("export", tiny_checkpoint, "--data", tiny_data.yaml)
    assert ran.code == 1
    assert "Traceback" not in ran.err
    last = ran.err.strip().splitlines()[-1]
    assert re.match(r"yoloqat export: integers differ by up to \d+ steps .* see 'nodes' in result.json$", last)
    found = ran.result["results"]
    worst = max(found["nodes"], key=lambda node: node["max_steps"])
    assert worst["layer"] == "model.1.conv"  # whose input the tampered layer computes
    assert found["node_max_steps"] == worst["max_steps"] > 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_the_docstring(cli: Cli, name: str) -> None:
    command = COMMANDS[name].load()
    assert command.name == name
    ran = cli(name, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert " ".join(command.doc.split()) in " ".join(ran.out.split())
    assert max(map(len, ran.out.splitlines())) <= 80
    for option in ("--out", "--device", "--threads", "--json", "--debug"):
        assert option in ran.out


def test_the_help_of_all_lists_each_command_with_its_first_line(cli: Cli) -> None:
    ran = cli("--help")
    assert ran.code == 0
    told = " ".join(ran.out.split())
    for entry in COMMANDS.values():
        assert entry.summary == entry.load().doc.strip().splitlines()[0]
        assert f"{entry.name} {entry.summary}" in told


@pytest.mark.slow
def test_a_real_signal_ends_a_real_process(tiny_model: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    line = ["bench", str(tiny_model), "--rounds", "1000000", "--threads", "1", "--out", str(tmp_path / "out")]
    # a process that a shell starts in the background inherits that SIGINT is ignored; a user's does not
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heed}; import sys; from yoloqat.cli import main; print('ready', flush=True); sys.exit(main({line!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(3)  # well into the work, whatever it is doing then
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()  # a million rounds would outlive a failed test
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("yoloqat bench: interrupted;")
    assert not (tmp_path / "out").exists()
