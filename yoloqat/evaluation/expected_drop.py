"""The drop of mAP that a noise d brings as a rule, and the band of the models that the rule was measured on.

Measured by ``benchmarks/noise_and_map.py`` on COCO: four models, two image sizes, 8, 7 and 6 bits, six calibration methods.
A rule of thumb for other models; the drop itself is measured with labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

KNOTS = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5)
"""Values of d; beyond the last one the rule says nothing."""

MIDDLE = (0.0, 0.007148, 0.009549, 0.01639, 0.02154, 0.02803, 0.06168, 0.09673, 0.1352, 0.1818, 0.3326, 0.4578, 0.5709)
"""The monotone fit at the knots: the drop as a share of the float model's mAP50-95."""

SPREAD = (
    0.005387,
    0.005387,
    0.01009,
    0.01188,
    0.01812,
    0.01812,
    0.03511,
    0.03541,
    0.03988,
    0.05379,
    0.06731,
    0.1184,
    0.1893,
)
"""Half the width of the band that holds about 95 % of the drops, likewise."""


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
