"""What the pipeline tests share beside fixtures."""

from __future__ import annotations

from typing import Any

import torch
from tiny_detector import IMGSZ

from yoloqat.config import EvalConfig
from yoloqat.pipeline.ptq import Ptq

CONFIG = EvalConfig(imgsz=IMGSZ, batch=2, conf=0.03)  # fewer boxes to match make the tests quick


class Forwards:
    """Counts the forwards of a module, those that collect statistics apart."""

    def __init__(self, ptq: Ptq) -> None:
        self.collecting = 0
        self.others = 0
        first = ptq.detector.module.get_submodule(ptq.layers[0])

        def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if first._input_quantizer._if_calib:
                self.collecting += 1
            else:
                self.others += 1

        ptq.detector.module.register_forward_pre_hook(hook)


def without_seconds(value: Any) -> Any:
    """Return a result without what the clock told."""
    if isinstance(value, dict):
        return {key: without_seconds(entry) for key, entry in value.items() if not key.endswith("seconds")}
    return [without_seconds(entry) for entry in value] if isinstance(value, list) else value
