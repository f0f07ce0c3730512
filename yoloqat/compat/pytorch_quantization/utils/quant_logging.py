"""Help against log records that appear twice (NVIDIA's ``pytorch_quantization.utils.quant_logging``)."""

from __future__ import annotations

import logging

__all__ = ["reset_logger_handler"]


def reset_logger_handler() -> None:
    """Take all handlers off the root logger."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
