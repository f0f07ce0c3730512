"""Names of nodes as exporters make them."""

from __future__ import annotations

import pytest

from yoloqat.onnx_graph.names import module_path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/model.22/cv2.0/cv2.0.0/conv/Conv_1", "model.22.cv2.0.0.conv"),
        ("/model.22/Sigmoid", "model.22.Sigmoid"),
        ("model.0.conv", "model.0.conv"),
        ("Conv", "Conv"),
        ("/", ""),
        ("", ""),
    ],
)
def test_a_name_is_a_path_of_modules(name: str, path: str) -> None:
    assert module_path(name, ("Conv", "MatMul")) == path
