"""The examples run, and find what they say; notebooks are run by `scripts/run_notebooks.py`, and only read here."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from few_images import demo_of_few_images

import yoloqat

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
IMAGES = 64


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_classifier_agrees_in_all_three_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    found = example("classifier").main(tmp_path)
    assert found["Float"] > 0.9
    for stage in ("QFloat, calibrated", "QFloat, fine-tuned", "Q, ONNX Runtime", "Q, OpenVINO"):
        assert abs(found[stage] - found["Float"]) < 0.02, stage
    # scores span about 20; a score moves by hundredths where quantization comes in, by less between QFloat and an engine
    assert 0 < found["QFloat, calibrated, gap"] < 0.1
    assert found["Q, ONNX Runtime, gap"] < 0.01
    assert found["Q, OpenVINO, gap"] < 0.05
    assert found["integers by hand, gap"] < 1e-3
    assert len(capsys.readouterr().out.splitlines()) == 8
    assert (tmp_path / "digits.onnx").is_file()


def test_the_ten_lines_calibrate_three_ways_find_noisy_blocks_and_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = demo_of_few_images(EXAMPLES.parent / "data" / "demo.yaml", tmp_path / "few", images=IMAGES)
    example("ten_lines").main(tmp_path / "demo.onnx", yaml=data)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["max", "entropy", "mse"]
    drops = [float(line.split()[4]) for line in lines[:3]]
    assert max(map(abs, drops)) < 0.02, "8 bits cost the demo little"
    assert next(line for line in lines if line.startswith("model.")).split()[0] == "model.2", "the noisiest block"
    assert "quantized convolutions 57 of 64" in [" ".join(line.split()) for line in lines]
    assert (tmp_path / "demo.onnx").is_file()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_output_and_imports_what_is_there(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] or cell["execution_count"] for cell in cells] == [None] * len(cells)
    assert any(".plot()" in "".join(cell["source"]) for cell in cells)
    tree = ast.parse("\n".join("".join(cell["source"]) for cell in cells))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("yoloqat"):
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "yq":
            assert node.attr in yoloqat.__all__


def test_every_notebook_is_told_of_and_one_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (EXAMPLES.parent / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert {path.name for path in NOTEBOOKS} == set(re.findall(r"`examples/(\w+\.ipynb)`", page))
    monkeypatch.syspath_prepend(str(EXAMPLES.parent / "scripts"))
    assert importlib.import_module("run_notebooks").run(["stori"]) == 2
    assert (
        "no notebook 'stori'; expected one of compare_methods, finetune, noisy_layers, story" in capsys.readouterr().err
    )


def test_what_runs_notebooks_and_is_absent_is_named(monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES.parent / "scripts"))
    script = importlib.import_module("run_notebooks")
    monkeypatch.setattr(script.importlib.util, "find_spec", lambda name: None if name == "nbclient" else name)
    assert script.run(["story"]) == 2
    assert capsys.readouterr().err == (
        "nbclient is not installed; expected what runs notebooks; pip install 'yoloqat[notebooks]'\n"
    )
