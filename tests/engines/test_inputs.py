from __future__ import annotations

import numpy as np
import pytest

from yoloqat.engines.inputs import checked_images
from yoloqat.errors import EngineError
from yoloqat.predictor import ModelInfo


def test_other_types_and_layouts_become_contiguous_float32():
    images = np.asfortranarray(np.ones((2, 3, 4, 6)))
    result = checked_images(images, ModelInfo({0: "a"}))
    assert (result.dtype, result.flags["C_CONTIGUOUS"], result.shape) == (np.float32, True, (2, 3, 4, 6))


@pytest.mark.parametrize("shape", [(3, 4, 6), (1, 4, 4, 6), (2, 3, 4, 6), (1, 3, 6, 4)])
def test_shapes_that_do_not_fit_are_named(shape):
    info = ModelInfo({0: "a"}, imgsz=(4, 6), batch=1)
    told = str(shape).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(EngineError, match=rf"images have the shape {told}; expected \(batch 1, 3, height 4, width 6\)"):
        checked_images(np.zeros(shape, dtype=np.float32), info)
