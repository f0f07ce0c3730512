from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

NAMES = {0: "cat", 1: 'a "dog"; big', 2: "bird"}


@pytest.fixture
def make_onnx(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an ONNX detector of three classes with a mask output."""

    def make(
        *,
        batch: object = 1,
        side: object = 32,
        channels: int = 3,
        end2end: bool = False,
        dtype: int = TensorProto.FLOAT,
    ) -> Path:
        nodes = [helper.make_node("Identity", ["images"], [name]) for name in ("output0", "output1")]
        graph = helper.make_graph(
            nodes,
            "detector",
            [helper.make_tensor_value_info("images", dtype, [batch, channels, side, side])],
            [
                helper.make_tensor_value_info("output0", dtype, [batch, 7, 21]),
                helper.make_tensor_value_info("output1", dtype, [batch, 4, 8, 8]),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
        metadata = {"names": NAMES, "stride": 16, "task": "detect", "end2end": end2end}
        helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return path

    return make


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A file that begins as Ultralytics' engines do."""
    header = json.dumps({"task": "detect"}).encode()
    path = tmp_path / "model.engine"
    path.write_bytes(len(header).to_bytes(4, "little") + header + b"the plan")
    return path
