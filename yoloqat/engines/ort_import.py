"""ONNX Runtime without its telemetry."""

from __future__ import annotations

import importlib
import os
from typing import Any

OPT_OUT = "ORT_DISABLE_TELEMETRY"
"""The variable that ONNX Runtime reads once, when it is imported."""


def import_onnxruntime() -> Any:
    """Import ONNX Runtime so that it sends nothing and keeps no identifier of the machine.

    Its packages for Linux and macOS report sessions to Microsoft since 1.31 unless the environment says otherwise. The
    environment is afterwards as it was. A process that has imported ONNX Runtime by itself before keeps what it had then.

    Returns:
        The module ``onnxruntime``.
    """
    before = os.environ.get(OPT_OUT)
    os.environ[OPT_OUT] = "1"
    try:
        return importlib.import_module("onnxruntime")
    finally:
        if before is None:
            del os.environ[OPT_OUT]
        else:
            os.environ[OPT_OUT] = before
