"""Quantizer placeholders in the ONNX exporter: one node each, in a domain of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import torch
from onnx.defs import OpSchema
from onnxscript import values

from yoloqat.quant.tensor_quantizer import PLACEHOLDER_OP

DOMAIN, OPERATOR = PLACEHOLDER_OP.split("::")
_NAME = "name"


def _schema() -> OpSchema:
    return OpSchema(
        OPERATOR,
        DOMAIN,
        1,
        inputs=[OpSchema.FormalParameter("x", "T")],
        outputs=[OpSchema.FormalParameter("y", "T")],
        type_constraints=[("T", ["tensor(float)", "tensor(float16)"], "The quantizer's input.")],
        attributes=[OpSchema.Attribute(_NAME, OpSchema.AttrType.STRING, "The quantizer's qualified name.")],
    )


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the ``custom_translation_table`` with which `torch.onnx.export` writes placeholders."""
    operator = values.Op(values.Opset(DOMAIN, 1), OPERATOR, _schema())

    def placeholder(x: Any, name: str) -> Any:
        return operator(x, name=name)

    return {torch.ops.yoloqat.quantizer.default: placeholder}


def placeholder_name(node: onnx.NodeProto) -> str | None:
    """Return the qualified name of the quantizer that ``node`` stands for, or None where it is no placeholder."""
    if (node.domain, node.op_type) != (DOMAIN, OPERATOR):
        return None
    return next((attribute.s.decode() for attribute in node.attribute if attribute.name == _NAME), "")
