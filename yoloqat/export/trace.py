"""Trace a torch module as an ONNX graph, before any pass."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from onnx import helper
from torch import nn

from yoloqat.errors import ExportError
from yoloqat.export.lower import NEWEST, lower_opset
from yoloqat.export.padding import name_padded_axes
from yoloqat.export.placeholders import translations
from yoloqat.onnx_graph.operators import opset_of
from yoloqat.quant.graph.trace import without_stack_traces

INPUT, BATCH = "images", "batch"
_CHATTY = ("torch.onnx", "onnxscript", "onnx_ir")


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's warnings and log lines inside the block."""
    names = [
        name
        for name in logging.root.manager.loggerDict
        if any(name == chatty or name.startswith(f"{chatty}.") for chatty in _CHATTY)
    ]
    loggers = [logging.getLogger(name) for name in (*_CHATTY, *names)]
    parents = loggers[: len(_CHATTY)]
    before, levels = [logger.disabled for logger in loggers], [logger.level for logger in parents]
    try:
        for logger in loggers:
            logger.disabled = True
        for logger in parents:  # of modules that are imported only now
            logger.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
        for logger, level in zip(parents, levels, strict=True):
            logger.setLevel(level)


def _output_names(outputs: object) -> list[str]:
    tensors = outputs if isinstance(outputs, tuple | list) else (outputs,)
    odd = [type(tensor).__name__ for tensor in tensors if not isinstance(tensor, torch.Tensor)]
    if odd or not tensors:
        raise ExportError(
            f"the module returns {type(outputs).__name__} of {', '.join(odd) or 'nothing'}",
            expected="a tensor or a tuple of tensors",
            hint="put the head into its export mode or wrap the module",
        )
    return [f"output{index}" for index in range(len(tensors))]


def trace_onnx(module: nn.Module, example: torch.Tensor, *, opset: int = 19, dynamic: bool = False) -> onnx.ModelProto:
    """Trace a module with `torch.onnx.export` (the dynamo exporter) at the shape of ``example``.

    Inside :func:`yoloqat.quant.graph.quantizer_placeholders` each quantizer leaves a node of the domain ``yoloqat``.

    Initialisers keep their parameters' names (``model.0.conv.weight``), which is how later passes find layers. The
    exporter writes opset 18 and newer itself; older ones come from :func:`yoloqat.export.lower.lower_opset`.

    Args:
        module: A module in evaluation mode that maps images to a tensor or a tuple of tensors.
        example: Images, shape (batch, channels, height, width), float32.
        opset: Version of the standard ONNX operators.
        dynamic: Leave the batch size open, as the dimension ``batch``.

    Returns:
        A graph with the input ``images`` and the outputs ``output0``, ``output1``, ..., of the IR version that the opset needs,
        which older runtimes read as well.

    Raises:
        ExportError: The module is in training mode, returns something else than tensors or cannot be traced, or the
            exporter does not deliver the opset, or the forward fixes the batch size that was to be left open.
    """
    if module.training:
        raise ExportError(
            f"module {type(module).__name__} is in training mode", expected="evaluation mode", hint="call eval() first"
        )
    with torch.no_grad():
        # a detector's head caches its anchors at the first forward; traced without them, it branches on data
        names = _output_names(module(example))
        try:
            with _quiet(), without_stack_traces():
                program = torch.onnx.export(
                    module,
                    (example,),
                    dynamo=True,
                    external_data=False,
                    verbose=False,
                    opset_version=max(opset, NEWEST),
                    input_names=[INPUT],
                    output_names=names,
                    custom_translation_table=translations(),
                    dynamic_shapes=({0: torch.export.Dim(BATCH)},) if dynamic else None,
                )
        except torch.onnx.OnnxExporterError as error:
            raise ExportError(
                f"module {type(module).__name__} cannot be traced ({str(error).strip().splitlines()[0]})",
                expected="a module that torch.export can trace",
                hint="remove branches on data from its forward",
            ) from error
        except ValueError as error:
            raise _no_such_opset(opset, str(error)) from error
    if program is None:  # only without dynamo
        raise _no_such_opset(opset, "the exporter returned nothing")
    model: onnx.ModelProto = lower_opset(name_padded_axes(program.model_proto).model, opset).model
    if opset_of(model) != opset:
        raise _no_such_opset(opset, f"the exporter gave {opset_of(model)}")
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
    size = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if dynamic and size:
        raise ExportError(
            f"module {type(module).__name__} fixes its batch size to {size}",
            expected="a forward that takes any batch",
            hint="export it with a fixed batch",
        )
    return model


def _no_such_opset(opset: int, reason: str) -> ExportError:
    return ExportError(
        f"opset {opset} cannot be had for this module ({reason})",
        expected="an opset that the installed torch writes",
        hint="take one from 18 to 23",
    )
