"""What the lint finds in real files: our own export, and those of ONNX Runtime's quantizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from yoloqat.cli import main
from yoloqat.linting import Finding, Severity, lint_file

IMGSZ = 160
FIXED = {"per_channel": True, "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True}}
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def floating(real_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YOLOv8n as float ONNX."""
    out = tmp_path_factory.mktemp("float")
    weights = str(real_dir / "weights" / "yolov8n.pt")
    assert main(["export", weights, "--imgsz", str(IMGSZ), "--threads", "1", "--out", str(out)]) == 0
    return out / "model.onnx"


@pytest.fixture
def quantized(floating: Path, tmp_path: Path) -> Callable[..., list[Finding]]:
    """Quantize with ONNX Runtime on noise, which sets other scales than images but the same structure, and lint that."""
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Noise(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined,unused-ignore]
        def __init__(self) -> None:
            generator = np.random.default_rng(0)
            self.batches = iter([generator.random((1, 3, IMGSZ, IMGSZ), dtype=np.float32) for _ in range(2)])

        def get_next(self) -> dict[str, Any] | None:
            images = next(self.batches, None)
            return None if images is None else {"images": images}

    def quantize(activation: str, **options: Any) -> list[Finding]:
        path = tmp_path / "quantized.onnx"
        kinds = {"activation_type": quantization.QuantType[activation], "weight_type": quantization.QuantType.QInt8}
        quantization.quantize_static(floating, path, Noise(), **kinds, **options)
        return lint_file(path)

    return quantize


def errors(findings: list[Finding]) -> dict[str, int]:
    """Return how many nodes each error names."""
    return {f.rule: len(f.nodes) for f in findings if f.severity is Severity.ERROR}


def test_a_float_export_is_named_as_such(floating: Path) -> None:
    assert [finding.rule for finding in lint_file(floating)] == ["no-quantization"]


def test_our_export_has_no_error_and_warns_of_the_narrow_concat_alone(real_dir: Path, tmp_path: Path) -> None:
    train = ["--calib-images-dir", str(real_dir / "coco" / "images" / "train2017"), "--calib-images", "4"]
    common = ["--imgsz", str(IMGSZ), "--threads", "1"]
    weights = str(real_dir / "weights" / "yolov8n.pt")
    assert (
        main(["calibrate", weights, *train, "--method", "max", "--no-eval", *common, "--out", str(tmp_path / "c")]) == 0
    )
    assert main(["export", str(tmp_path / "c" / "model.safetensors"), *common, "--out", str(tmp_path)]) == 0
    found = [f for f in lint_file(tmp_path / "model.onnx") if f.severity is not Severity.NOTE]
    assert [(f.rule, f.nodes) for f in found] == [("concat-channels", ("node_cat",))]  # 16 channels, model.2


def test_onnx_runtimes_defaults_have_zero_points_and_biases(quantized) -> None:
    found = errors(quantized("QInt8"))
    assert set(found) == {"zero-point", "quantized-bias"}
    assert found["quantized-bias"] == 63  # all convolutions but the DFL, which has no bias


def test_onnx_runtimes_uint8_activations_are_no_int8(quantized) -> None:
    assert set(errors(quantized("QUInt8", per_channel=True))) == {"zero-point", "code-type", "quantized-bias"}


def test_onnx_runtimes_symmetric_quantization_still_has_biases(quantized) -> None:
    assert errors(quantized("QInt8", **FIXED)) == {"quantized-bias": 63}


def test_onnx_runtime_told_to_leave_biases_has_no_error_but_pairs_in_the_wrong_place(quantized, floating: Path) -> None:
    options = {**FIXED, "extra_options": {**FIXED["extra_options"], "QuantizeBias": False}}
    findings = quantized("QInt8", op_types_to_quantize=["Conv"], **options)
    assert errors(findings) == {}
    activations = (
        sum(node.op_type == "Sigmoid" for node in onnx.load(floating).graph.node) - 1
    )  # not that of the scores
    named = {finding.rule: finding for finding in findings}
    assert len(named["inside-activation"].nodes) == activations
    assert "head-layer" in named


def test_onnx_runtimes_operator_format_is_no_qdq(quantized) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    assert "integer-operator" in errors(quantized("QUInt8", quant_format=quantization.QuantFormat.QOperator))
