"""The drop of mAP that a noise d brings as a rule, and the band of the models that the rule was measured on.

Measured by ``benchmarks/noise_and_map.py`` on COCO: four models, two image sizes, 8, 7 and 6 bits, six calibration methods.
A rule of thumb for other models; the drop itself is measured with labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

KNOTS = (0.0, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.8)
"""Values of d; beyond the last one the rule says nothing."""

MIDDLE = (0.0, 0.007, 0.007, 0.007, 0.015, 0.03, 0.12, 0.2, 0.4, 0.8)
"""The monotone fit at the knots: the drop as a share of the float model's mAP50-95."""

SPREAD = (0.0, 0.01, 0.01, 0.01, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15)
"""Half the width of the band that holds 95 % of the models, likewise."""


def expected_drop(d: float | None, map_float: float | None) -> dict[str, Any]:
    """Return the expected drop of mAP50-95 at a noise d as result keys, with its band.

    Args:
        d: The noise, or None where there is none.
        map_float: mAP50-95 of the float model; None where there are no labels: then the drop is a share of it.

    Returns:
        ``expected_drop`` and ``expected_drop_band: [low, high]``, in mAP; or ``expected_relative_drop`` and its band, as a
        share of the float model's mAP. None beyond the noise that the rule was measured on.
    """
    name, scale = ("expected_relative_drop", 1.0) if map_float is None else ("expected_drop", map_float)
    if d is None or not 0.0 <= d <= KNOTS[-1]:
        return {name: None, f"{name}_band": None}
    middle, spread = (float(np.interp(d, KNOTS, values)) * scale for values in (MIDDLE, SPREAD))
    return {name: middle, f"{name}_band": [max(0.0, middle - spread), middle + spread]}
