from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from yoloqat.errors import ModelError
from yoloqat.onnx_graph.file import read_onnx


def outside(location: str) -> onnx.ModelProto:
    """A model with one tensor whose values are in another file."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "values")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    return helper.make_model(
        helper.make_graph([helper.make_node("Identity", ["values"], ["y"])], "g", [], [value], [tensor])
    )


def test_values_beside_the_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "values.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (tmp_path / "m.onnx").write_bytes(outside("values.bin").SerializeToString())
    tensor = read_onnx(tmp_path / "m.onnx").graph.initializer[0]
    assert numpy_helper.to_array(tensor).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("location", ["", "none.bin", "../secret.bin", "/etc/passwd", "link.bin", "x" * 5000])
def test_values_that_lie_elsewhere_are_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "m.onnx").write_bytes(outside(location).SerializeToString())
    with pytest.raises(
        ModelError, match=r"external data of '.*m\.onnx' cannot be read \(.{1,300}\); expected the files"
    ):
        read_onnx(folder / "m.onnx")
