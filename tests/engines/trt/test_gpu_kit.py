"""The kit for a GPU, whole and without one: against the stand-in for TensorRT."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from stand_in import World, make_tensorrt

from yoloqat.cli import main
from yoloqat.cli.main import parsed
from yoloqat.deploy import gpu_kit
from yoloqat.deploy.gpu_kit import Step, kit_results, kit_steps, kit_tables, run_kit, run_process


@pytest.fixture
def here(monkeypatch, capsys):
    """Run yoloqat in this process, which has the stand-in for TensorRT."""
    world = World()
    monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt(11, world))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", world.cuda)

    def run(arguments):
        try:
            code = main([*arguments, "--threads", "1", "-q"] if arguments[0] != "lint" else [*arguments, "-q"])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, capsys.readouterr().err

    return run


@pytest.mark.slow
def test_it_runs_whole(here, tiny_model, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_kit, "VARIANTS", {"int8": ()})
    steps = kit_steps(
        tiny_model, ["--data", str(tiny_data.yaml), "--imgsz", "64"], tmp_path, calibration=8, device="cpu"
    )
    steps = [step for step in steps if step.name != "finetune"]  # has tests of its own
    found = run_kit(steps, tmp_path, run=here)
    assert not [result.said for result in found if result.said]
    assert {result.name: (result.state, result.said) for result in found} == {step.name: ("done", "") for step in steps}
    results = kit_results(found)
    assert (results["done"], results["failed"], results["not_run"]) == (len(steps), 0, 0)
    built = {result.name: result.results for result in found}["build-int8"]
    assert built["int8_convolutions"] == built["quantized_convolutions"] > 0
    assert len(results["items"]) == 2
    _, engines = kit_tables(found)
    assert [row[0] for row in engines.rows] == ["float", "int8"]
    assert "-" not in engines.rows[1]
    assert max(map(len, str(engines).splitlines())) <= 80


def test_a_step_that_fails_ends_itself_alone(tmp_path):
    def run(arguments):
        if arguments[0] == "crash":
            raise RuntimeError("the driver is gone")
        return (2, "yoloqat: a mistake\n") if arguments[0] == "fail" else (0, "")

    there = tmp_path / "there"
    there.write_text("")
    steps = [
        Step("a", "what", ("fail", "x")),
        Step("b", "what", ("crash",)),
        Step("c", "what", ("fine",), (tmp_path / "gone",)),
        Step("d", "what", ("fine", str(there), str(tmp_path / "gone")), (there, tmp_path / "gone"), any_of=True),
    ]
    ticks = []
    found = run_kit(steps, tmp_path, run=run, progress=lambda step, done, total: ticks.append((done, total)))
    assert [result.state for result in found] == ["failed", "failed", "not run", "done"]
    assert [result.said for result in found] == [
        "exit code 2: yoloqat: a mistake",
        "exit code 1: RuntimeError: the driver is gone",
        f"'{tmp_path / 'gone'}' is not there",
        "",
    ]
    assert found[3].command == f"yoloqat fine {there} --out {tmp_path / 'd'}"
    assert ticks[-1] == (4, 4)
    assert kit_results(found)["not_run"] == 1


def test_the_same_line_runs_what_is_not_done_alone(tmp_path):
    ran = []

    def run(arguments):
        ran.append(arguments[0])
        if arguments[0] == "stop" and ran.count("stop") == 1:
            raise KeyboardInterrupt
        folder = Path(arguments[-1])
        folder.mkdir(exist_ok=True)
        (folder / "result.json").write_text('{"results": {"d": 0.125}}')
        return (2, "no") if arguments[0] == "fail" else (0, "")

    steps = [Step("a", "what", ("fine",)), Step("b", "what", ("fail",)), Step("c", "what", ("stop",))]
    with pytest.raises(KeyboardInterrupt):
        run_kit(steps, tmp_path, run=run)
    found = run_kit(steps, tmp_path, run=run)
    assert ran == ["fine", "fail", "stop", "fail", "stop"]
    assert [result.state for result in found] == ["done", "failed", "done"]
    assert found[0].results == {"d": 0.125}
    other = [Step("a", "what", ("fine", "--imgsz", "320")), *steps[1:]]
    (tmp_path / "c" / "result.json").unlink()
    run_kit(other, tmp_path, run=run)
    assert ran[5:] == ["fine", "fail", "stop"], "another line, a failure, and a result that is gone"


def test_a_step_runs_in_a_process_of_its_own():
    code, said = run_process(["unheard-of"])
    assert code == 2
    assert "unknown command 'unheard-of'" in said


def test_every_step_is_a_line_that_yoloqat_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for step in kit_steps(Path("m.pt"), ["--data", "coco.yaml", "--imgsz", "640"], Path("out"), gpus=2):
        command, args = parsed([*step.arguments, "--out", str(tmp_path / step.name)])
        assert command.name == args.command == step.arguments[0]
        assert step.claim


@pytest.mark.parametrize(("training", "taken"), [(None, []), (400, []), (118287, ["--train", "fraction=0.003382"])])
def test_it_trains_for_fifty_steps_however_large_the_data_set_is(training, taken):
    steps = {step.name: step.arguments for step in kit_steps(Path("m.pt"), [], Path("out"), gpus=2, training=training)}
    for name, device in (("finetune", "0"), ("finetune-nccl", "0,1")):
        at = steps[name].index("--epochs")
        assert list(steps[name][at:]) == [
            "--epochs",
            "1",
            "--batch",
            "8",
            "--train",
            "amp=True",
            "--device",
            device,
            *taken,
        ]


def test_two_gpus_train_over_nccl():
    names = [step.name for step in kit_steps(Path("m.pt"), [], Path("out"), gpus=2)]
    assert names[-1] == "finetune-nccl"
    assert "finetune-nccl" not in [step.name for step in kit_steps(Path("m.pt"), [], Path("out"))]


@pytest.fixture
def coco(tmp_path):
    """A data set YAML without a training split: how long it is trained is told by no number of images."""
    (tmp_path / "coco.yaml").write_text("path: .\nval: images\nnames: [a]\n")
    return str(tmp_path / "coco.yaml")


def test_the_command_records_and_ends_with_1(tmp_path, monkeypatch, capsys, coco):
    monkeypatch.setattr(gpu_kit, "run_process", lambda arguments: (2, f"no {arguments[0]} here"))
    monkeypatch.setattr(gpu_kit, "gpu_count", lambda: 2)
    out = tmp_path / "out"
    assert main(["gpu-kit", "m.pt", "--data", coco, "--gpus", "2", "--out", str(out)]) == 1
    shown = capsys.readouterr()
    assert "steps failed; expected none; see 'steps'" in shown.err
    assert "no export here" in " ".join(shown.out.split())
    page = (out / "report.html").read_text()
    assert "0 of 27 steps are done, 6 failed and 21 were not run" in page
    assert "exit code 2: no export here" in page
    with pytest.raises(SystemExit, match="2"):
        main(["gpu-kit", "m.pt", "--data", "coco.yaml", "--gpus", "0", "--out", str(tmp_path / "none")])
    assert "--gpus is 0" in capsys.readouterr().err
    assert main(["gpu-kit", "m.pt", "--out", str(tmp_path / "none")]) == 2
    assert "is None; expected a data set YAML with labels" in capsys.readouterr().err


def test_without_a_gpu_it_ends_in_one_line_before_any_step(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_kit, "run_process", lambda arguments: pytest.fail("a step ran"))
    monkeypatch.setattr(gpu_kit, "gpu_count", lambda: 0)
    line = ["gpu-kit", "m.pt", "--data", "coco.yaml", "--out", str(tmp_path / "out")]
    assert main(line) == 2
    error = capsys.readouterr().err
    assert "device is 'auto' and torch sees no GPU here; expected a GPU" in error
    assert error.count("\n") == 1


def test_without_tensorrt_the_last_line_says_what_to_install(tmp_path, monkeypatch, capsys, coco):
    monkeypatch.setattr(gpu_kit, "run_process", lambda arguments: (2, "no"))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = ["gpu-kit", "m.pt", "--data", coco, "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(line) == 1
    assert (
        "TensorRT is not installed, so that no engine was built: pip install 'yoloqat[tensorrt]'"
        in capsys.readouterr().err
    )
