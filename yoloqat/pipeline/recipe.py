"""The recipe of a calibrated detector, and whether a detector is made by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from yoloqat.config import CalibrationConfig, EvalConfig, QuantConfig, Recipe, from_dict
from yoloqat.datasets import ImageRecord
from yoloqat.detectors import Detector
from yoloqat.errors import ConfigError, ModelError
from yoloqat.pipeline.run import IMAGES, Run, images_digest
from yoloqat.provenance import environment, file_sha256


def calibration_of(made: Mapping[str, Any]) -> CalibrationConfig:
    """Return the settings among what a checkpoint tells of its calibration."""
    known = {field.name for field in fields(CalibrationConfig)} | {"type", "version"}
    return from_dict(CalibrationConfig, {name: value for name, value in made.items() if name in known})


def recipe_of(
    detector: Detector,
    config: EvalConfig,
    *,
    run: Run,
    float_layers: Sequence[str] = (),
    predicted: Mapping[str, Any] | None = None,
    measured: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return the recipe that calibrates a detector as it was, with more layers left float.

    Args:
        detector: Calibrated.
        config: Gives the batch; the image size is that of the calibration.
        run: Device and threads, for the provenance.
        float_layers: Layers to leave float beside those that are.
        predicted: Figures that were predicted.
        measured: Figures that were measured.

    Raises:
        ModelError: The detector is not calibrated.
    """
    quantization = detector.quantization
    if quantization is None or not quantization.calibration:
        raise ModelError(
            f"'{detector.source.path}' is not calibrated", expected="a calibrated detector", hint="calibrate it first"
        )
    model = {"path": detector.source.path, "sha256": detector.source.sha256}
    made = quantization.calibration
    return made_recipe(
        model,
        quantization.config,
        made,
        config,
        run=run,
        float_layers=tuple(float_layers),
        refine=tuple(made.get("refine", {}).get("steps", ())),
        predicted=predicted or {},
        measured=measured or {},
    )


def made_recipe(
    model: Mapping[str, str],
    quant: QuantConfig,
    made: Mapping[str, Any],
    config: EvalConfig,
    *,
    run: Run,
    **settings: Any,
) -> Recipe:
    """Return the recipe of what a file tells of its calibration.

    Args:
        model: ``path`` and ``sha256`` of the float model.
        quant: What is quantized.
        made: What it tells.
        config: Gives image size and batch where it does not tell them.
        run: Device and threads, for the provenance.
        settings: The other attributes of the recipe.
    """
    calibration = calibration_of(made)
    return Recipe(
        model=dict(model),
        quantization=quant,
        calibration=calibration,
        imgsz=made.get("imgsz") or config.imgsz,
        batch=int(made.get("batch") or config.batch),
        images_digest=made.get(IMAGES),
        provenance=environment(device=str(run.device), threads=run.threads, seed=calibration.seed),
        **settings,
    )


def check_model(recipe: Recipe, detector: Detector) -> None:
    """Check that a detector has the weights that a recipe is for.

    Raises:
        ConfigError: It has others.
    """
    _check_hash(recipe, detector.source.path, detector.source.sha256)


def check_onnx(recipe: Recipe, path: Path) -> None:
    """Check that a float ONNX file is the one that a recipe is for, or the ``float.onnx`` that was made of it.

    Raises:
        ConfigError: It is another.
        ModelError: It cannot be read.
    """
    _check_hash(recipe, str(path), file_sha256(path))


def _check_hash(recipe: Recipe, path: str, sha256: str) -> None:
    if sha256 not in (recipe.model["sha256"], recipe.model.get("float_sha256")):
        raise ConfigError(
            f"'{path}' is another model than that of the recipe ('{recipe.model['path']}')",
            expected=f"the file of sha256 {recipe.model['sha256'][:12]}...",
            hint="name the model of the recipe",
        )


def check_made_by(recipe: Recipe, detector: Detector) -> None:
    """Check that a checkpoint is quantized and calibrated as a recipe says.

    Raises:
        ConfigError: It is not; the first difference is named.
        ModelError: It is not calibrated.
    """
    check_model(recipe, detector)
    quantization = detector.quantization
    if quantization is None or not quantization.calibration:
        raise ModelError(
            f"'{detector.source.path}' is not calibrated",
            expected="what the recipe calibrates",
            hint="calibrate it first",
        )
    ours, theirs = quantization.config, recipe.quant
    pairs: dict[str, tuple[Any, Any]] = {
        "ignore list": (sorted(ours.ignore), sorted(theirs.ignore)),
        "quantization": (replace(ours, ignore=()), replace(theirs, ignore=())),
        "calibration": (calibration_of(quantization.calibration), recipe.calibration),
        "refinement": (tuple(quantization.calibration.get("refine", {}).get("steps", ())), recipe.refine),
    }
    for what, (our, their) in pairs.items():
        if our != their:
            raise ConfigError(
                f"the {what} of the checkpoint is {our!s:.200}",
                expected=f"{their!s:.200}, as the recipe says",
                hint="calibrate with `recipe`",
            )


def check_images(recipe: Recipe, records: Sequence[ImageRecord]) -> None:
    """Check that calibration images are those of a recipe.

    Raises:
        ConfigError: They are others.
        DataError: An image cannot be read.
    """
    if recipe.images_digest is None:
        return
    found = images_digest(records)
    if found != recipe.images_digest:
        raise ConfigError(
            f"the {len(records)} calibration images have the digest {found}",
            expected=f"{recipe.images_digest}, as the recipe says",
            hint="name the data set of the recipe, or take images_digest out of it",
        )
