from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from yoloqat.errors import ExportError
from yoloqat.export.lower import lower_opset

X = np.arange(2 * 7 * 4 * 4, dtype=np.float32).reshape(2, 7, 4, 4)


def graph(node: onnx.NodeProto, constants: dict[str, np.ndarray], outputs: int = 1) -> onnx.ModelProto:
    values = helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in node.output]
    body = helper.make_graph(
        [node], "g", [values], made, [numpy_helper.from_array(array, name) for name, array in constants.items()]
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    inferred.graph.value_info.extend(inferred.graph.output)
    return inferred


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": X}
    )


NODES = {
    "even split": (helper.make_node("Split", ["x"], ["a", "b"], name="s", axis=2, num_outputs=2), {}),
    "uneven split": (helper.make_node("Split", ["x"], ["a", "b", "c", "d"], name="s", axis=1, num_outputs=4), {}),
    "sized split": (helper.make_node("Split", ["x", "n"], ["a", "b"], name="s", axis=1), {"n": np.array([1, 6])}),
    "maximum": (helper.make_node("ReduceMax", ["x", "n"], ["a"], keepdims=0), {"n": np.array([2, 3])}),
    "mean": (
        helper.make_node("ReduceMean", ["x", "n"], ["a"], noop_with_empty_axes=0),
        {"n": np.array([-1])},
    ),
    "pad": (helper.make_node("Pad", ["x", "n", "", "m"], ["a"]), {"n": np.array([1, 2]), "m": np.array([2])}),
    "pad with a value": (
        helper.make_node("Pad", ["x", "n", "v", "m"], ["a"]),
        {"n": np.array([0, 1, 1, 0]), "v": np.array(3.0, np.float32), "m": np.array([3, 2])},
    ),
    "sum": (helper.make_node("ReduceSum", ["x", "n"], ["a"]), {"n": np.array([1])}),
    "resize": (
        helper.make_node(
            "Resize",
            ["x", "", "n"],
            ["a"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
            antialias=0,
            keep_aspect_ratio_policy="stretch",
        ),
        {"n": np.array([1, 1, 2, 2], dtype=np.float32)},
    ),
    "reshape": (helper.make_node("Reshape", ["x", "n"], ["a"], allowzero=0), {"n": np.array([2, -1])}),
    "reshape without zeros": (helper.make_node("Reshape", ["x", "n"], ["a"], allowzero=1), {"n": np.array([-1, 4])}),
}


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("opset", [13, 17])
def test_a_node_of_an_older_opset_computes_the_same(name: str, opset: int) -> None:
    node, constants = NODES[name]
    model = graph(node, constants)
    before = model.SerializeToString(deterministic=True)
    lowered = lower_opset(model, opset)
    assert lowered.modified
    assert lowered.model.opset_import[0].version == opset
    assert model.SerializeToString(deterministic=True) == before
    for found, want in zip(run(lowered.model), run(model), strict=True):
        np.testing.assert_allclose(found, want, rtol=0, atol=2e-38)  # the least normal number stands for a padded 0


def test_a_new_opset_is_left_alone() -> None:
    model = graph(*NODES["maximum"])
    result = lower_opset(model, 18)
    assert not result.modified
    assert result.model is model


@pytest.mark.parametrize(
    ("node", "constants", "told"),
    [
        (helper.make_node("Mish", ["x"], ["a"], name="m"), {}, r"Mish of 'm': no such operator"),
        (
            helper.make_node("Resize", ["x", "", "n"], ["a"], name="r", mode="linear", antialias=1),
            {"n": np.array([1, 1, 2, 2], dtype=np.float32)},
            r"Resize of 'r': attribute antialias",
        ),
    ],
)
def test_what_has_no_older_form_is_told(node: onnx.NodeProto, constants: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(ExportError, match=rf"opset 13 cannot be had for this module \({told}"):
        lower_opset(graph(node, constants), 13)


def test_a_pad_of_unknown_rank_keeps_its_axes_and_is_told() -> None:
    node = helper.make_node("Pad", ["x", "n", "", "m"], ["a"], name="p")
    model = graph(node, {"n": np.array([1, 1]), "m": np.array([2])})
    del model.graph.value_info[:]
    with pytest.raises(ExportError, match=r"opset 13 cannot be had for this module \(Pad of 'p': 4 inputs"):
        lower_opset(model, 13)
