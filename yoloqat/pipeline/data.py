"""A data set as the stages take it: images with labels to score on, and images to calibrate on."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from yoloqat.config import CalibrationConfig
from yoloqat.config.arguments import checked_arguments
from yoloqat.config.checks import check_seed
from yoloqat.datasets import DetectionDataset, ImageRecord, calibration_images, comparison_images, load_dataset, spread
from yoloqat.datasets.unlabelled import COMPARED
from yoloqat.errors import ConfigError, DataError


@dataclass(frozen=True)
class Dataset:
    """Where a data set lies; its files are read when they are first needed.

    Attributes:
        yaml: An Ultralytics data set YAML, or None.
        images: A directory of images, instead of ``yaml``.
        annotations: The COCO json of ``images``, or None where they have no labels.
        calibration_source: What calibration images are taken from: a YAML, whose training split it is, or a directory.
    """

    yaml: Path | None = None
    images: Path | None = None
    annotations: Path | None = None
    calibration_source: Path | None = None

    def __post_init__(self) -> None:
        """Take paths that are given as text.

        Raises:
            ConfigError: One is no path.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str):
                object.__setattr__(self, field.name, Path(value))
            elif not isinstance(value, Path | None):
                raise ConfigError(
                    f"{field.name} of Dataset is {value!r:.120}", expected="a path, or None", hint="pass a path"
                )

    @classmethod
    @checked_arguments
    def from_yaml(cls, path: str | Path, *, calibration_images: str | Path | None = None) -> Dataset:
        """Take an Ultralytics data set YAML.

        Args:
            path: The YAML.
            calibration_images: A directory to calibrate on instead of the training split.
        """
        return cls(yaml=Path(path), calibration_source=Path(calibration_images or path))

    @classmethod
    @checked_arguments
    def from_coco(
        cls, images: str | Path, annotations: str | Path, *, calibration_images: str | Path | None = None
    ) -> Dataset:
        """Take a COCO pair.

        Args:
            images: Directory of the validation images.
            annotations: Their COCO json.
            calibration_images: Directory of the images to calibrate on; validation images are never taken unless they are
                named here.
        """
        source = None if calibration_images is None else Path(calibration_images)
        return cls(images=Path(images), annotations=Path(annotations), calibration_source=source)

    @classmethod
    @checked_arguments
    def from_images(cls, directory: str | Path) -> Dataset:
        """Take images without labels: one half to calibrate on, the other to measure what that costs."""
        return cls(images=Path(directory), calibration_source=Path(directory))

    @property
    def labelled(self) -> bool:
        """True where there are labels to score against."""
        return self.yaml is not None or self.annotations is not None

    @cached_property
    def validation(self) -> DetectionDataset:
        """The images to score on, with their labels.

        Raises:
            DataError: There are no labels, or a file is missing or malformed.
        """
        if not self.labelled:
            raise DataError(
                f"the images in '{self.images}' have no labels",
                expected="a data set YAML, or a COCO json beside them",
                hint="use Dataset.from_yaml or Dataset.from_coco to score a model",
            )
        return load_dataset(self.yaml, images=self.images, annotations=self.annotations)

    def calibration(
        self, count: int = CalibrationConfig.images, *, seed: int = 0, select: str = CalibrationConfig.select
    ) -> tuple[ImageRecord, ...]:
        """Choose calibration images.

        Args:
            count: How many.
            seed: Seeds the choice.
            select: ``"random"``, ``"first"`` or ``"range"``, as :func:`yoloqat.datasets.calibration_images` describes them.

        Raises:
            ConfigError: No images to calibrate on were named, or an argument is out of range.
            DataError: There are too few, or the data set has no training split.
        """
        check_seed(seed)
        if self.calibration_source is None:
            raise ConfigError(
                f"calibration images are not named (calibration_images is {self.calibration_source})",
                expected="a directory of images, because validation images are not calibrated on unless you name them",
                hint="pass calibration_images",
            )
        held_out = not self.labelled and self.images == self.calibration_source
        return calibration_images(self.calibration_source, count, seed, select=select, held_out=held_out)

    def comparison(self, count: int = COMPARED) -> tuple[ImageRecord, ...]:
        """Return images to compare models on by their raw outputs, which needs no labels; none that calibrates.

        Args:
            count: How many, evenly spread over the validation images; all where there are fewer.

        Raises:
            ConfigError: ``count`` is not a positive whole number.
            DataError: There are too few images.
        """
        if self.labelled or self.images is None:
            return spread(self.validation.images, count)
        return comparison_images(self.images, count, held_out=self.images == self.calibration_source)
