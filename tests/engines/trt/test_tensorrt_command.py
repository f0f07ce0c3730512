"""`yoloqat build`, `eval` and `bench` with a TensorRT engine, and the same without torch."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from stand_in import World, make_tensorrt

from yoloqat.cli import main
from yoloqat.cli.tensorrt import main as build_alone
from yoloqat.engines import open_engine
from yoloqat.engines.dispatch import cuda_index
from yoloqat.engines.tensorrt import TensorRTPredictor
from yoloqat.errors import DependencyError

ENDS = ["--threads", "1"]


@pytest.fixture(params=[10, 11])
def installed(request, monkeypatch):
    world = World()
    monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt(request.param, world))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", world.cuda)
    return world


@pytest.fixture
def absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)


def results(out):
    return json.loads((out / "result.json").read_text())["results"]


def test_a_file_for_tensorrt_is_built_for_it_without_being_told(installed, tiny_checkpoint, tiny_data, tmp_path):
    export, build, data = tmp_path / "export", tmp_path / "build", ["--data", str(tiny_data.yaml)]
    assert main(["export", str(tiny_checkpoint), "--target", "tensorrt", *ENDS, "--out", str(export)]) == 0
    assert main(["build", str(export / "model.onnx"), *data, *ENDS, "--out", str(build)]) == 0
    found = results(build)
    assert (found["engine"], found["int8_convolutions"]) == ("tensorrt", found["quantized_convolutions"])
    assert main(["eval", str(build / "model.engine"), *data, *ENDS, "--out", str(tmp_path / "eval")]) == 0
    assert results(tmp_path / "eval")["map50_95"] == found["map_engine"] > 0.1


@pytest.mark.parametrize("half", [True, False])
def test_what_is_not_quantized_is_fp16_unless_it_is_asked_otherwise(installed, tiny_onnx, tmp_path, half):
    options = [] if half else ["--no-half"]
    assert main(["build", str(tiny_onnx), "--engine", "tensorrt", *options, *ENDS, "--out", str(tmp_path)]) == 0
    source = tmp_path / "model_fp16.onnx" if half else tiny_onnx
    assert f"--onnx={source} " in results(tmp_path)["trtexec"]["10"]
    assert (tmp_path / "model_fp16.onnx").exists() is half


def test_built_scored_and_timed(installed, tiny_onnx, tiny_data, tmp_path, capsys):
    build, data = tmp_path / "build", ["--data", str(tiny_data.yaml)]
    assert main(["build", str(tiny_onnx), "--engine", "tensorrt", *data, *ENDS, "--out", str(build)]) == 0
    shown = capsys.readouterr().out
    assert "trtexec --onnx=" in shown
    found = results(build)
    assert found["int8_convolutions"] == found["quantized_convolutions"] > 0
    assert found["drop"] == pytest.approx(found["map_float"] - found["map_engine"])
    assert set(found["trtexec"]) == {"10", "11"}
    assert found["reformats"]
    assert (build / "timing.cache").is_file()
    engine = build / "model.engine"
    assert main(["eval", str(engine), *data, *ENDS, "--out", str(tmp_path / "eval")]) == 0
    assert main(["eval", str(build / "model_fp16.onnx"), *data, *ENDS, "--out", str(tmp_path / "onnx")]) == 0
    assert results(tmp_path / "eval")["map50_95"] == found["map_engine"]
    assert results(tmp_path / "onnx")["map50_95"] == pytest.approx(found["map_engine"], abs=0.02)
    models = [str(engine), str(tiny_onnx)]
    assert main(["bench", *models, "--rounds", "2", *ENDS, "--out", str(tmp_path / "bench")]) == 0
    items = results(tmp_path / "bench")["items"]
    counts = f"int8 {found['int8_convolutions']}/{found['convolutions']}"
    assert (items[0]["engine"], items[0]["precision"]) == ("tensorrt", counts)


def test_without_tensorrt_the_file_and_the_line_are_left(absent, tiny_onnx, tmp_path, capsys):
    out = tmp_path / "build"
    assert main(["build", str(tiny_onnx), "--engine", "tensorrt", *ENDS, "--out", str(out)]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    for part in ("pip install tensorrt-cu13", f"take '{out / 'model.onnx'}'", "and type: sh build_engine.sh"):
        assert part in line
    assert sorted(path.name for path in out.iterdir()) == ["build_engine.sh", "model.onnx"]
    assert b"/half" in (out / "model.onnx").read_bytes()  # what is not quantized is FP16
    assert main(["build", str(out / "model.onnx"), "--engine", "tensorrt", *ENDS, "--out", str(out)]) == 2
    assert sorted(path.name for path in out.iterdir()) == ["build_engine.sh", "model.onnx"]


@pytest.mark.parametrize(
    ("version", "code", "told"),
    [
        ("v101600", 0, "--onnx=model.onnx --saveEngine=model.plan --stronglyTyped"),
        ("v110400", 0, "--onnx=model.onnx --saveEngine=model.plan"),
        ("v8601", 1, "TensorRT 86; expected 10 or 11"),
    ],
)
def test_the_script_that_is_left_calls_trtexec_as_its_version_wants(
    absent, tiny_onnx, tmp_path, capsys, version, code, told
):
    out = tmp_path / "a folder"
    assert main(["build", str(tiny_onnx), "--engine", "tensorrt", *ENDS, "--out", str(out)]) == 2
    program = tmp_path / "bin" / "trtexec"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "&&&& RUNNING TensorRT.trtexec [TensorRT {version}] # trtexec"\necho "$PWD" "$@" >> "$LOG"\n'
    )
    program.chmod(0o755)
    environment = {"PATH": f"{program.parent}:/usr/bin:/bin", "LOG": str(tmp_path / "log")}
    ran = subprocess.run(
        ["sh", str(out / "build_engine.sh")], env=environment, capture_output=True, text=True, check=False
    )
    called = (tmp_path / "log").read_text().splitlines()[-1]
    assert ran.returncode == code
    assert told in " ".join([called, ran.stderr])
    assert called.startswith(str(out))


def test_mistakes_come_before_the_missing_package(absent, tiny_onnx, tmp_path, capsys):
    arguments = [str(tiny_onnx), "--engine", "tensorrt", "--max-batch", "8", *ENDS, "--out", str(tmp_path / "build")]
    assert main(["build", *arguments]) == 2
    assert "batch 1 to 8 is asked for" in capsys.readouterr().err
    assert not (tmp_path / "build").exists()


def test_scoring_needs_cudas_bindings_before_the_build(installed, tiny_onnx, tiny_data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    arguments = [str(tiny_onnx), "--engine", "tensorrt", *ENDS, "--out", str(tmp_path / "build")]
    assert main(["build", *arguments, "--data", str(tiny_data.yaml)]) == 2
    assert "pip install cuda-bindings" in capsys.readouterr().err
    assert main(["build", *arguments]) == 0


def test_engine_is_opened_by_its_suffix(installed, absent, tiny_onnx, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt(11, installed))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", installed.cuda)
    assert build_alone([str(tiny_onnx), "--out", str(tmp_path)]) == 0
    assert isinstance(open_engine(tmp_path / "model.engine"), TensorRTPredictor)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(DependencyError, match=r"TensorRT cannot be imported"):
        open_engine(tmp_path / "model.engine")


def test_devices():
    assert [cuda_index(name) for name in ("cpu", "0", "cuda:1", "cuda")] == [0, 0, 1, 0]


def test_without_torch(installed, tiny_onnx, tmp_path, capsys):
    assert build_alone([str(tiny_onnx), "--out", str(tmp_path)]) == 0
    written = json.loads((tmp_path / "layers.json").read_text())
    counts = f"{written['int8_convolutions']} of {written['convolutions']} convolutions in INT8"
    assert counts in capsys.readouterr().out
    assert build_alone([str(tmp_path / "none.onnx"), "--out", str(tmp_path)]) == 2
    assert "cannot read" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["yoloqat.cli.tensorrt", "yoloqat.engines.tensorrt"])
def test_its_program_imports_no_torch_by_either_name(module):
    code = (
        "import runpy, sys; sys.modules.update(torch=None, ultralytics=None); sys.argv[1:] = ['none.onnx', '--dla', '-1'];"
        f"runpy.run_module({module!r}, run_name='__main__')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("python -m yoloqat.cli.tensorrt: dla is -1; expected ")
    assert ran.stderr.count("\n") == 1


def test_recipe_builds_both_engines_for_the_runtime_that_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "scripts"))
    recipe, steps = importlib.import_module("build_engine"), []
    monkeypatch.setattr(recipe, "main", lambda step: steps.append(step) or 0)
    arguments = ["a.pt", "--data", "a.yaml", "--engine", "tensorrt", "--device", "0", "--out", str(tmp_path)]
    assert recipe.run(arguments) == 0
    assert [step[0] for step in steps] == ["calibrate", "export", "build", "export", "build", "bench"]
    for step in steps:
        assert step[-2:] == ["--device", "0"]
        assert ("tensorrt" in step) == (step[0] in ("calibrate", "build") or step[:2] == ["export", "a.pt"])
    engines = {str(tmp_path / name / "model.engine") for name in ("build", "float_build")}
    assert engines < set(steps[-1])
