"""Settings as frozen values, checked when they are made, versioned to and from plain dicts."""

from yoloqat.config.calibration import CalibrationConfig
from yoloqat.config.evaluation import EvalConfig
from yoloqat.config.export import ExportConfig
from yoloqat.config.method import MethodSpec
from yoloqat.config.quantization import QuantConfig
from yoloqat.config.recipe import Recipe
from yoloqat.config.scheme import QuantScheme
from yoloqat.config.serial import from_dict, to_dict

__all__ = [
    "CalibrationConfig",
    "EvalConfig",
    "ExportConfig",
    "MethodSpec",
    "QuantConfig",
    "QuantScheme",
    "Recipe",
    "from_dict",
    "to_dict",
]
