"""What a machine with TensorRT and a GPU can tell that no other can: the steps, each in a process of its own.

A step is a command line of yoloqat. A step that fails, or that needs what another did not leave, is recorded and the rest goes
on; a crash of a driver or of TensorRT ends its own step alone. Needs no torch itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yoloqat.progress import Progress, silent
from yoloqat.provenance import write_json
from yoloqat.results import Table, counted

Runner = Callable[[Sequence[str]], tuple[int, str]]
"""Runs yoloqat with arguments; returns the exit code and what it said on standard error."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "int8": (),
    "sums-both": ("--adds", "both"),
    "sums-float": ("--adds", "none"),
    "attention": ("--attention",),
    "depthwise": ("--depthwise",),
}
"""Placements that are built and timed beside each other: the default first, then one other choice each."""
_KEPT = 2000
_TOLD = (
    "map50_95", "map_float", "map_qfloat", "map_engine", "drop", "drop_ci95", "d", "d_ci95", "int8_convolutions",
    "quantized_convolutions", "convolutions", "int8_mac_share", "reformats", "tensorrt", "trtexec", "items", "predicted_totals",
    "epochs", "quantized_layers", "seconds", "warnings",
)  # fmt: skip

KEPT_STEPS = "steps.json"
"""The steps that are done, for a run that is interrupted."""

TRAINING_STEPS, BATCH = 50, 8
"""How far the kit trains, and images per step: enough to tell whether it runs, and how fast."""


@dataclass(frozen=True)
class Step:
    """One thing to try.

    Attributes:
        name: Of the step, and of the directory of its results.
        claim: What it checks that has not been run on a GPU.
        arguments: Of yoloqat, without ``--out``.
        needs: Files that earlier steps leave, without which it is not run; of ``bench`` any one of them is enough.
        any_of: Whether one of the files is enough; those that are missing are left out of the arguments.
    """

    name: str
    claim: str
    arguments: tuple[str, ...]
    needs: tuple[Path, ...] = ()
    any_of: bool = False


@dataclass(frozen=True)
class StepResult:
    """What came of a step.

    Attributes:
        name: Of the step.
        claim: What it checks.
        state: ``"done"``, ``"failed"`` or ``"not run"``.
        command: The line that repeats it.
        seconds: How long it took.
        said: The end of what it said where it failed, or which file was missing.
        results: The keys of its ``result.json`` that tell something.
    """

    name: str
    claim: str
    state: str
    command: str
    seconds: float
    said: str
    results: dict[str, Any]


def kit_steps(
    model: Path,
    data: Sequence[str],
    out: Path,
    *,
    calibration: int = 64,
    gpus: int = 1,
    device: str = "0",
    training: int | None = None,
) -> list[Step]:
    """Return the steps for a model, in order.

    Args:
        model: The trained model, a ``.pt``.
        data: Options that name the images, e.g. ``["--data", "coco.yaml"]``.
        out: Where results go.
        calibration: How many images to calibrate on.
        gpus: How many there are; two or more also train on two.
        device: What the steps of torch run on, as ``--device`` has it.
        training: Training images that there are; of these so many are taken that an epoch has about :data:`TRAINING_STEPS`.
    """
    on = ("--device", device)
    steps = [
        Step("float", "export of the float model in FP16", ("export", str(model), "--half", *on)),
    ]
    for name, options in VARIANTS.items():
        calibrated, exported = out / f"calibrate-{name}" / "model.safetensors", out / f"export-{name}" / "model.onnx"
        steps += [
            Step(
                f"calibrate-{name}",
                "calibration and the fused fake-quantization kernel on CUDA",
                (
                    "calibrate",
                    str(model),
                    *data,
                    "--target",
                    "tensorrt",
                    "--calib-images",
                    str(calibration),
                    *options,
                    *on,
                ),
            ),
            Step(
                f"export-{name}", "export of a calibrated model", ("export", str(calibrated), *data, *on), (calibrated,)
            ),
            Step(f"lint-{name}", "what is predicted of the engine", ("lint", str(exported), "--explain"), (exported,)),
        ]
    files = {"float": out / "float" / "model.onnx"} | {name: out / f"export-{name}" / "model.onnx" for name in VARIANTS}
    engines = tuple(out / f"build-{name}" / "model.engine" for name in files)
    for name, path in files.items():
        build = ("build", str(path), "--engine", "tensorrt", *data, "--float", str(model), *on)
        steps.append(
            Step(
                f"build-{name}", "TensorRT takes the file; kernels, inspector, mAP and d of the engine", build, (path,)
            )
        )
    steps += [
        Step(
            "bench", "latency, interleaved, with CUDA graphs", ("bench", *map(str, engines), *on), engines, any_of=True
        ),
        Step(
            "onnxruntime-cuda",
            "ONNX Runtime with its CUDA provider",
            ("eval", str(files["int8"]), *data, *on),
            (files["int8"],),
        ),
        Step(
            "noise",
            "the noise budget on CUDA",
            ("sensitivity", str(out / "calibrate-int8" / "model.safetensors"), *data, "--mode", "noise", *on),
            (out / "calibrate-int8" / "model.safetensors",),
        ),
        _training("finetune", "fine-tuning with AMP on CUDA", data, out, device, training),
    ]
    if gpus > 1:
        steps.append(_training("finetune-nccl", "fine-tuning on two GPUs over NCCL", data, out, "0,1", training))
    return steps


def _training(name: str, claim: str, data: Sequence[str], out: Path, device: str, training: int | None) -> Step:
    checkpoint = out / "calibrate-int8" / "model.safetensors"
    options = ["--epochs", "1", "--batch", str(BATCH), "--train", "amp=True", "--device", device]
    wanted = TRAINING_STEPS * BATCH
    if training is not None and training > wanted:
        options += ["--train", f"fraction={wanted / training:.6f}"]
    return Step(name, claim, ("finetune", str(checkpoint), *data, *options), (checkpoint,))


def run_kit(
    steps: Sequence[Step], out: Path, *, run: Runner | None = None, progress: Progress = silent
) -> list[StepResult]:
    """Run steps one after another, whatever becomes of each; those that a former run has done are not run again.

    Args:
        steps: What to try.
        out: Where the results go, a directory per step.
        run: Runs yoloqat; None starts a process per step.
        progress: Told after each step.
    """
    found, finished = list[StepResult](), _finished(out)
    for index, step in enumerate(steps):
        progress("steps", index, len(steps))
        result = _run_step(step, out, run or run_process, finished)
        found.append(result)
        if result.state == "done":
            finished[result.command] = result
            write_json(out / KEPT_STEPS, [asdict(done) for done in finished.values()])
    progress("steps", len(steps), len(steps))
    return found


def _finished(out: Path) -> dict[str, StepResult]:
    """Return the steps that an interrupted run has done, by their lines."""
    try:
        kept = json.loads((out / KEPT_STEPS).read_text(encoding="utf-8"))
        return {step["command"]: StepResult(**step) for step in kept}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _run_step(step: Step, out: Path, run: Runner, finished: dict[str, StepResult]) -> StepResult:
    missing = [str(path) for path in step.needs if not path.is_file()]
    arguments = [word for word in step.arguments if word not in missing] if step.any_of else list(step.arguments)
    arguments += ["--out", str(out / step.name)]
    command = " ".join(["yoloqat", *arguments])
    if missing and (not step.any_of or len(missing) == len(step.needs)):
        return StepResult(step.name, step.claim, "not run", command, 0.0, f"'{missing[0]}' is not there", {})
    if command in finished and (out / step.name / "result.json").is_file():
        return finished[command]
    begun = time.perf_counter()
    try:
        code, said = run(arguments)
    except Exception as error:  # a step never ends the kit
        code, said = 1, f"{type(error).__name__}: {error}"
    state = "done" if code == 0 else "failed"
    kept = "" if code == 0 else f"exit code {code}: {said.strip()[-_KEPT:]}"
    return StepResult(step.name, step.claim, state, command, time.perf_counter() - begun, kept, _told(out / step.name))


def gpu_count() -> int:
    """Return how many GPUs torch sees, asked in a process of its own; 0 where torch is not installed."""
    asked = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 - Python itself
    return int(said) if said.isdecimal() else 0


def run_process(arguments: Sequence[str]) -> tuple[int, str]:
    """Run yoloqat in a process of its own and return its exit code and standard error."""
    command = [sys.executable, "-m", "yoloqat", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this program itself
    return ended.returncode, ended.stderr


def _told(directory: Path) -> dict[str, Any]:
    """Return what a step's result tells, without the long lists."""
    try:
        results = json.loads((directory / "result.json").read_text(encoding="utf-8"))["results"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {key: results[key] for key in _TOLD if isinstance(results, dict) and key in results}


def kit_results(found: Sequence[StepResult]) -> dict[str, Any]:
    """Return the result keys of ``gpu-kit``, JSON-able."""
    states = [result.state for result in found]
    counts = {name: states.count(name.replace("_", " ")) for name in ("done", "failed", "not_run")}
    timed = next((result.results for result in found if result.name == "bench"), {})
    return {"steps": [asdict(result) for result in found], **counts, "items": timed.get("items", [])}


def kit_tables(found: Sequence[StepResult]) -> tuple[Table, ...]:
    """Return every step with what came of it, and the engines beside each other."""
    rows = tuple((x.name, x.state, f"{x.seconds:.0f}", x.said[-200:] or x.claim) for x in found)
    done = sum(result.state == "done" for result in found)
    steps = Table(
        f"{counted(len(found), 'step')}, {done} done",
        ("step", "state", "s", "why, or what it checks"),
        rows,
        left=(1, 3),
    )
    times = {Path(item["artifact"]).parent.name: item["latency_ms"]["p50"] for item in kit_results(found)["items"]}
    built = [result for result in found if result.name.startswith("build-") and result.state == "done"]
    engines = tuple(
        (
            result.name.removeprefix("build-"),
            *(
                f"{value:.4f}" if isinstance(value, float) else "-"
                for value in map(result.results.get, ("map_engine", "drop", "d"))
            ),
            f"{times[result.name]:.3f}" if result.name in times else "-",
        )
        for result in built
    )
    return (steps, Table("engines", ("variant", "mAP", "drop", "d", "p50 ms"), engines)) if engines else (steps,)
