"""The examples run, and find what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from few_images import demo_of_few_images

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
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
