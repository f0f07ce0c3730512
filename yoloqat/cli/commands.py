"""The commands by name, with their short help; each is imported only when it is used."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from yoloqat.cli.command import Command, LightCommand


@dataclass(frozen=True)
class Entry:
    """A command that is not imported yet.

    Attributes:
        name: What the user types.
        module: The module that holds its ``COMMAND``.
        summary: The first line of that module's docstring, for the list of commands.
    """

    name: str
    module: str
    summary: str

    def load(self) -> Command | LightCommand:
        """Import the command and everything it needs."""
        command: Command | LightCommand = importlib.import_module(self.module).COMMAND
        return command


COMMANDS = {
    name: Entry(name, f"yoloqat.cli.{module}", summary)
    for name, module, summary in (
        (
            "quantize",
            "quantize",
            "Take a .pt or a float .onnx to the fastest INT8 engine within a loss that you allow.",
        ),
        ("demo", "demo", "The story of INT8, offline, on a small detector that yoloqat brings along."),
        ("inspect", "inspect", "Show what a model is made of, what of it is quantized, and why the rest stays float."),
        ("eval", "evaluate", "Score a model by COCO mAP, and by how far it is from the float model."),
        ("predict", "predict", "Run any model on images or a video, and draw what it sees."),
        (
            "diff",
            "diff",
            "Show on which images a quantized model and its float model disagree, and what it does to their boxes.",
        ),
        ("calibrate", "calibrate", "Calibrate a model by one method and save it."),
        ("compare", "compare", "Compare calibration methods by noise and by COCO mAP."),
        (
            "sensitivity",
            "sensitivity",
            "Find the layers that make the noise: a noise budget without labels, and the drop of COCO mAP with intervals.",
        ),
        (
            "search",
            "search",
            "Choose the layers to leave float within a drop, a noise or a latency, along the whole frontier.",
        ),
        ("finetune", "finetune", "Fine-tune a calibrated checkpoint (QAT): win back what calibration cannot."),
        ("export", "export", "Export a calibrated model to QDQ ONNX."),
        ("lint", "lint", "Find what is wrong with a QDQ ONNX file, without a GPU."),
        ("build", "build", "Build an INT8 engine from a QDQ ONNX file."),
        (
            "engine-report",
            "engine_report",
            "Show what a given engine really does: the precision and time of its layers, and what costs time.",
        ),
        ("bench", "bench", "Time several models in one run, interleaved."),
        (
            "gpu-kit",
            "gpu_kit",
            "Try on a GPU what only a GPU can tell: engines of TensorRT, and the CUDA paths of yoloqat.",
        ),
        ("report", "report", "Join the results of several directories into one page."),
        ("data", "data", "Fetch a data set from its own server: the official COCO files."),
    )
}
"""In the order of the help."""
