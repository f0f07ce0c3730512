"""The confidence below which a model with NMS inside drops boxes by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from yoloqat.engines.model_info import model_info
from yoloqat.onnx_graph.file import input_shape, properties
from yoloqat.onnx_graph.graph import constants
from yoloqat.predictor import ModelInfo

NMS = "NonMaxSuppression"
_CONF_INPUT = 4
_PLUGINS = ("score_threshold", "scoreThreshold")
"""Attributes of TensorRT's NMS plugins, EfficientNMS_TRT and BatchedNMS_TRT."""

Node = tuple[str, list[str], list[str]]
"""Operator, inputs, outputs."""


def onnx_file_info(source: str, model: onnx.ModelProto) -> ModelInfo:
    """Return what an ONNX file tells of its model, its built-in confidence included.

    Args:
        source: The file, named in errors.
        model: As read.

    Raises:
        ModelError: The metadata are missing or malformed.
    """
    info = model_info(source, properties(model), input_shape(model))
    return with_conf(info, onnx_conf(model) if info.conf is None else None)


def with_conf(info: ModelInfo, conf: float | None) -> ModelInfo:
    """Return ``info`` with the confidence found in the graph, where the metadata tell none."""
    return info if info.conf is not None or conf is None else replace(info, conf=conf)


def onnx_conf(model: onnx.ModelProto) -> float | None:
    """Return the confidence that a graph compares scores with, None where it has no NMS or tells none."""
    held = constants(model.graph)
    for node in model.graph.node:
        for entry in node.attribute:
            if entry.name in _PLUGINS and "NMS" in node.op_type:
                return float(helper.get_attribute_value(entry))
    nodes = [(node.op_type, list(node.input), list(node.output)) for node in model.graph.node]
    return _conf(nodes, lambda name: numpy_helper.to_array(held[name]) if name in held else None)


def openvino_conf(model: Any) -> float | None:
    """Return the same of an `openvino.Model`."""
    operations = list(model.get_ordered_ops())
    held = {op.get_friendly_name(): op for op in operations if op.get_type_name() == "Constant"}
    nodes = []
    for op in operations:
        names = [_behind_convert(op.input_value(index).get_node()) for index in range(op.get_input_size())]
        nodes.append((op.get_type_name(), names, [op.get_friendly_name()]))
    return _conf(nodes, lambda name: np.asarray(held[name].get_data()) if name in held else None)


def _behind_convert(node: Any) -> str:
    """Return the name of a node, or of the constant that it converts: weights may be kept in float16."""
    if node.get_type_name() == "Convert" and node.input_value(0).get_node().get_type_name() == "Constant":
        node = node.input_value(0).get_node()
    return str(node.get_friendly_name())


def _conf(nodes: Iterable[Node], constant: Callable[[str], Any]) -> float | None:
    """Return the highest of the thresholds of the NMS itself, and of comparisons that lead to it."""
    known = list(nodes)
    producer = {name: node for node in known for name in node[2]}
    found = []
    ends = [node for node in known if node[0] == NMS]
    for node in ends:
        if len(node[1]) > _CONF_INPUT:
            found.append(constant(node[1][_CONF_INPUT]))
    for node in _before(ends, producer):
        if node[0] == "Greater":
            found.append(constant(node[1][1]))
    # 0.001 in float32 is a little more: what was meant are the digits
    values = [float(f"{float(value.reshape(-1)[0]):.6g}") for value in found if value is not None and value.size == 1]
    return max((value for value in values if 0 < value < 1), default=None)


def _before(ends: list[Node], producer: Mapping[str, Node]) -> list[Node]:
    """Return the nodes that some others depend on."""
    seen: dict[int, Node] = {}
    waiting = [name for node in ends for name in node[1]]
    while waiting:
        node = producer.get(waiting.pop())
        if node is not None and id(node) not in seen:
            seen[id(node)] = node
            waiting += node[1]
    return list(seen.values())
