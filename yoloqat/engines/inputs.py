"""What every engine checks before it runs."""

from __future__ import annotations

import numpy as np

from yoloqat.errors import EngineError
from yoloqat.predictor import Images, ModelInfo


def checked_images(images: Images, info: ModelInfo) -> Images:
    """Return ``images`` as contiguous float32, having checked them against the model's fixed sizes.

    Raises:
        EngineError: They are no batch of images of the model's channels, or of another batch or size than the model's.
    """
    shape = tuple(images.shape)
    batch, sides = (info.batch or "any"), (info.imgsz or ("any", "any"))
    fits = len(shape) == 4 and shape[1] == info.channels
    fits = fits and info.batch in (None, shape[0]) and info.imgsz in (None, shape[2:])
    if not fits:
        raise EngineError(
            f"images have the shape {shape}",
            expected=f"(batch {batch}, {info.channels}, height {sides[0]}, width {sides[1]})",
            hint="letterbox and batch them for this model, or export it for theirs",
        )
    return np.ascontiguousarray(images, dtype=np.float32)
