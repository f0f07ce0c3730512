"""A graph in memory run by ONNX Runtime in float arithmetic, its Q/DQ pairs computed as they are written."""

from __future__ import annotations

import numpy as np
import onnx

from yoloqat.engines.inputs import checked_images
from yoloqat.engines.ort import open_session, run_session, session_options
from yoloqat.predictor import Images, ModelInfo, RawOutputs

FLOAT_OPTION = "session.disable_quant_qdq"
"""Option of ONNX Runtime that leaves Q/DQ pairs where they are instead of replacing them by integer kernels."""


class GraphPredictor:
    """A detector whose graph lies in memory.

    Args:
        model: The graph; not kept.
        info: Names, stride and fixed shapes.
        source: What errors name.
        threads: Threads inside one operator.

    Raises:
        ModelError: ONNX Runtime cannot load it.
    """

    def __init__(self, model: onnx.ModelProto, info: ModelInfo, source: str, *, threads: int) -> None:
        options = session_options(threads=threads)
        options.add_session_config_entry(FLOAT_OPTION, "1")
        self._session = open_session(model.SerializeToString(), source, options)
        self._info = info

    @property
    def info(self) -> ModelInfo:
        """Names, stride and fixed shapes of the model."""
        return self._info

    def __call__(self, images: Images) -> RawOutputs:
        """Run the graph once on ``images`` and return its outputs in the graph's order.

        Raises:
            EngineError: The images do not have the model's fixed shape, or ONNX Runtime cannot run it.
        """
        found = run_session(self._session, checked_images(images, self._info))
        return [np.asarray(output, dtype=np.float32) for output in found]
