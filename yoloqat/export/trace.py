"""A float torch module as an ONNX graph, before any pass touches it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from torch import nn

from yoloqat.errors import ExportError

INPUT = "images"
_CHATTY = ("torch.onnx", "onnxscript", "onnx_ir")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the exporter's warnings and log lines for the length of the block."""
    names = [
        name
        for name in logging.root.manager.loggerDict
        if any(name == chatty or name.startswith(f"{chatty}.") for chatty in _CHATTY)
    ]
    loggers = [logging.getLogger(name) for name in (*_CHATTY, *names)]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _output_names(outputs: object) -> list[str]:
    tensors = outputs if isinstance(outputs, tuple | list) else (outputs,)
    odd = [type(tensor).__name__ for tensor in tensors if not isinstance(tensor, torch.Tensor)]
    if odd or not tensors:
        raise ExportError(
            f"the module returns {type(outputs).__name__} of {', '.join(odd) or 'nothing'}",
            expected="a tensor or a tuple of tensors",
            mend="put the head into its export mode or wrap the module",
        )
    return [f"output{index}" for index in range(len(tensors))]


def default_opset(model: onnx.ModelProto) -> int:
    """Return the version of the standard ONNX operators that ``model`` imports, 0 where it imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def trace_onnx(module: nn.Module, example: torch.Tensor, *, opset: int = 19) -> onnx.ModelProto:
    """Trace a float module with `torch.onnx.export` (the dynamo exporter) at the shape of ``example``.

    Initialisers keep their parameters' names (``model.0.conv.weight``), which is how later passes find layers. The
    batch is static. The exporter writes opset 18 and newer itself and converts down to older ones, which depends on the
    operators: of a YOLOv8 15 to 24 come out, of other networks 17 may not.

    Args:
        module: A module in evaluation mode that maps images to a tensor or a tuple of tensors.
        example: Images, shape (batch, channels, height, width), float32.
        opset: Version of the standard ONNX operators.

    Returns:
        A graph with the input ``images`` and the outputs ``output0``, ``output1``, ...

    Raises:
        ExportError: The module is in training mode, returns something else than tensors or cannot be traced, or the
            exporter does not deliver the opset.
    """
    if module.training:
        raise ExportError(
            f"module {type(module).__name__} is in training mode", expected="evaluation mode", mend="call eval() first"
        )
    with torch.no_grad():
        # a detector's head caches its anchors at the first forward; traced without them, it branches on data
        names = _output_names(module(example))
        try:
            with _quiet():
                program = torch.onnx.export(
                    module,
                    (example,),
                    dynamo=True,
                    external_data=False,
                    verbose=False,
                    opset_version=opset,
                    input_names=[INPUT],
                    output_names=names,
                )
        except torch.onnx.OnnxExporterError as error:
            raise ExportError(
                f"module {type(module).__name__} cannot be traced ({str(error).strip().splitlines()[0]})",
                expected="a module that torch.export can trace",
                mend="remove branches on data from its forward",
            ) from error
        except ValueError as error:
            raise _no_such_opset(opset, str(error)) from error
    if program is None:  # only without dynamo
        raise _no_such_opset(opset, "the exporter returned nothing")
    model: onnx.ModelProto = program.model_proto
    if default_opset(model) != opset:
        raise _no_such_opset(opset, f"the exporter gave {default_opset(model)}")
    return model


def _no_such_opset(opset: int, reason: str) -> ExportError:
    return ExportError(
        f"opset {opset} cannot be had for this module ({reason})",
        expected="an opset that the installed torch writes",
        mend="take one from 18 to 23",
    )
