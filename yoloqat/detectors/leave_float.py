"""A calibrated detector with fewer quantized layers, the others as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from yoloqat.detectors.checkpoint import family_of
from yoloqat.detectors.detector import Detector
from yoloqat.errors import ModelError
from yoloqat.quant import quantizers
from yoloqat.quant.sharing import locate_quantizer


def leave_float(detector: Detector, layers: Sequence[str]) -> Detector:
    """Return a new detector in which some layers are float: what an ignore list gives, without another calibration.

    The quantizers are placed anew, as calibration with these layers on the ignore list places them, and keep their ranges.

    Args:
        detector: Calibrated; not changed.
        layers: Names of quantized layers; with all of them the detector is float.

    Raises:
        ModelError: The detector is not quantized, or cannot be rebuilt.
        PatternError: A name is none of a layer.
    """
    made = detector.quantization
    if made is None:
        raise ModelError(
            f"'{detector.source.path}' is not quantized", expected="a calibrated detector", hint="calibrate it first"
        )
    detector.check_rebuildable()
    family = family_of(detector.family)
    found: Detector = family.detector_from_module(
        family.build(detector.architecture),
        detector.architecture,
        detector.source,
        names=detector.info.names,
        imgsz=detector.imgsz,
    )
    known = made.config.ignore
    found.quantize(replace(made.config, ignore=(*known, *(name for name in layers if name not in known))))
    tensors = detector.module.state_dict()
    state = {name: tensors[name] for name in found.module.state_dict() if name in tensors}
    for location, _ in quantizers(found.module):  # where the owner of a scale is float now, another registers it
        own = locate_quantizer(detector.module, location)[2].state_dict()
        state |= {f"{location}.{entry}": value for entry, value in own.items()}
    found.module.load_state_dict(state)
    now = found.quantization
    found.quantization = None if now is None or not now.layers else replace(now, calibration=made.calibration)
    return found
