"""The recipe of an INT8 engine: every setting that made it, in a small file from which the commands make it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from yoloqat.config.calibration import CalibrationConfig
from yoloqat.config.quantization import QuantConfig
from yoloqat.config.serial import from_dict, to_dict
from yoloqat.config.sizes import ImageSize, checked_imgsz, json_size
from yoloqat.errors import ConfigError
from yoloqat.provenance import finite, write_text
from yoloqat.provenance.plain_yaml import parse_yaml

SCHEMA = {"name": "yoloqat/recipe", "version": 1}
NAME = "recipe.yaml"
MOST_BYTES = 1 << 22
_HINT = "name a recipe that `yoloqat search` or `yoloqat quantize` wrote"


@dataclass(frozen=True)
class Recipe:
    """Every setting that made an engine, and the figures that were measured on it.

    Attributes:
        model: ``path`` and ``sha256`` of the float model; of an ONNX file ``float_sha256`` too, of the ``float.onnx`` made of it.
        quantization: Schemes, placement and target, with the layers that are float whatever is searched in ``ignore``.
        calibration: The method and the choice of the images.
        imgsz: Image size in pixels.
        batch: Images per forward.
        float_layers: The layers that were chosen to stay in floating point, beside ``quantization.ignore``.
        outputs: Of a float ONNX file, tensors or nodes at which the heads end; empty where they are found.
        images_digest: Digest of the calibration images by their bytes; None where it is not known.
        refine: Steps of the refinement, in their order.
        training: Settings of fine-tuning by the names of its options; empty where there was none.
        export: Settings of the export by the names of its options, without those above.
        predicted: Figures that were predicted, e.g. ``d`` and ``latency_ms``.
        measured: The same figures as measured.
        provenance: Versions and machine.

    Raises:
        ConfigError: A value is of another kind.
    """

    model: Mapping[str, str]
    quantization: QuantConfig
    calibration: CalibrationConfig
    imgsz: ImageSize
    batch: int = 8
    float_layers: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    images_digest: str | None = None
    refine: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    export: Mapping[str, Any] = field(default_factory=dict)
    predicted: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values that no settings class checks."""
        object.__setattr__(self, "imgsz", checked_imgsz(self.imgsz))
        for name in ("float_layers", "outputs", "refine"):
            texts = getattr(self, name)
            if not isinstance(texts, tuple) or not all(isinstance(text, str) and text for text in texts):
                raise _unfit(name, texts, "a list of names")
        for name in ("model", "training", "export", "predicted", "measured", "provenance"):
            if not isinstance(getattr(self, name), Mapping):
                raise _unfit(name, getattr(self, name), "entries by name")
        if not all(isinstance(self.model.get(key), str) for key in ("path", "sha256")):
            raise _unfit("model", dict(self.model), "its path and sha256")
        if not isinstance(self.images_digest, str | None):
            raise _unfit("images_digest", self.images_digest, "a digest, or null")
        if isinstance(self.batch, bool) or not isinstance(self.batch, int) or self.batch < 1:
            raise _unfit("batch", self.batch, "a whole number of at least 1")

    @property
    def quant(self) -> QuantConfig:
        """What is quantized in the engine: :attr:`quantization` without the float layers."""
        known = self.quantization.ignore
        return replace(self.quantization, ignore=(*known, *(name for name in self.float_layers if name not in known)))

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as a JSON-able dict with its schema; numbers that are not finite are None."""
        own = {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)}
        own["imgsz"] = json_size(self.imgsz)
        found: dict[str, Any] = finite({"schema": dict(SCHEMA), **own})[0]
        return found

    @classmethod
    def from_dict(cls, data: Any) -> Recipe:
        """Make a recipe of what :meth:`to_dict` returned.

        Raises:
            ConfigError: It is of another schema, lacks a key, or holds one that is unknown or unfit.
        """
        if not isinstance(data, dict):
            raise _unfit("content", data, "entries by name")
        if data.get("schema") != SCHEMA:
            raise _unfit("schema", data.get("schema"), f"{SCHEMA['name']} version {SCHEMA['version']}")
        values = {key: value for key, value in data.items() if key != "schema"}
        known = {entry.name for entry in fields(cls)}
        for problem, names in (
            ("unknown keys", values.keys() - known),
            ("missing keys", {"model", "quantization", "calibration", "imgsz"} - values.keys()),
        ):
            if names:
                raise _unfit(problem, ", ".join(sorted(map(str, names))), f"the keys {', '.join(sorted(known))}")
        values["quantization"] = from_dict(QuantConfig, values["quantization"])
        values["calibration"] = from_dict(CalibrationConfig, values["calibration"])
        for name in ("float_layers", "outputs", "refine"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        return cls(**values)

    def save(self, path: Path) -> None:
        """Write the recipe as YAML, whole or not at all.

        Raises:
            OutputError: The file cannot be written.
        """
        write_text(path, yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=120))

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe.

        Raises:
            ConfigError: The file cannot be read, or holds no recipe.
        """
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES} bytes")
            data, repeated = parse_yaml(path.read_text(encoding="utf-8"))
            if repeated:
                raise ValueError(f"it holds {repeated[0]} twice")
            return cls.from_dict(data)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise ConfigError(
                f"recipe '{path}' cannot be read ({reason:.300})", expected="a recipe.yaml", hint=_HINT
            ) from error
        except ConfigError as error:
            raise ConfigError(f"recipe '{path}': {error.what}", expected=error.expected, hint=error.hint) from error


def _plain(value: Any) -> Any:
    if isinstance(value, QuantConfig | CalibrationConfig):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _unfit(name: str, value: object, expected: str) -> ConfigError:
    return ConfigError(f"{name} of the recipe is {value!r:.200}", expected=expected, hint=_HINT)
