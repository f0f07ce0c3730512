"""The trainers that a detector can be fine-tuned on, each bound to its images."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from yoloqat.config import EvalConfig
from yoloqat.config.checks import check_int
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.datasets.dataset_yaml import read_dataset_file
from yoloqat.datasets.images import find_images, image_size, readable_images
from yoloqat.datasets.splits import split_images
from yoloqat.datasets.unlabelled import halves
from yoloqat.detectors import Detector, torch_device
from yoloqat.detectors.ultralytics import batch_norms
from yoloqat.errors import ConfigError, DataError
from yoloqat.finetuning import CheckpointManager, FinetuneConfig, SupervisionConfig, TrainingState
from yoloqat.finetuning.distill import float_teacher
from yoloqat.finetuning.norms import foldable
from yoloqat.finetuning.supervise import finetune_supervised
from yoloqat.finetuning.training_data import training_file
from yoloqat.finetuning.ultralytics import check_trainable, finetune_ultralytics, training_arguments
from yoloqat.pipeline.finetune import Train, float_file
from yoloqat.pipeline.finetune_processes import Job, train_together
from yoloqat.pipeline.run import Run, records_key

LOGS = "training"
"""The directory inside the results where Ultralytics keeps its own record of a training."""


@dataclass(frozen=True)
class Trainer:
    """A way to train, not yet bound to a detector.

    Attributes:
        config: How it trains.
        images: Gives the images it trains on.
        bind: Binds it to a detector, its float teacher and a run.
    """

    config: FinetuneConfig | SupervisionConfig
    images: Callable[[], tuple[ImageRecord, ...]]
    bind: Callable[[Detector, Detector, Run], Train]

    def images_key(self) -> str:
        """Return a digest of the training images."""
        return records_key(self.images())


def unnamed(source: Path | None) -> ConfigError:
    """Return the error for images to train on that were not named."""
    return ConfigError(
        f"the images to train on are not named (data is {source})",
        expected="a data set YAML with a training split, or a directory",
        hint="add `data=YAML`, or `SupervisionConfig.stride=1` and `Dataset.calibration_source=DIR`",
    )


def training_images(
    source: Path | None, skipped: list[Path] | None = None, *, held_out: bool = False
) -> tuple[ImageRecord, ...]:
    """Return all images of a data set's training split, or of a directory.

    Args:
        source: A data set YAML, a directory of images, or None where neither was named.
        skipped: Takes the images that do not decode, which are left out; None refuses those whose head is broken.
        held_out: Of a directory leave out the half that models are compared on.

    Raises:
        ConfigError: There is no source.
        DataError: There is no training split, or an image is missing or cannot be read.
    """
    if source is None:
        raise unnamed(source)
    if os.path.isdir(source):  # noqa: PTH112 - never fails
        paths = halves(source)[0] if held_out else find_images(source)
    else:
        spec = read_dataset_file(source)
        if not spec.train:
            raise DataError(f"data set '{source}' has no train split", expected="images to train on", hint="add train:")
        paths = split_images(spec.train, spec.root, "train")
    kept = readable_images(paths, skipped)
    return tuple(ImageRecord(path, number, *image_size(path)) for number, path in enumerate(kept, start=1))


@dataclass(frozen=True)
class Places:
    """The devices of several processes that train together, and the inputs that each loads and scores by itself.

    Attributes:
        devices: One for each process.
        checkpoint: The file of the detector.
        dataset: The validation images; None where images without labels judge.
        evaluation: How they are scored.
        compared: Images to measure the noise on.
    """

    devices: tuple[str, ...]
    checkpoint: Path
    dataset: DetectionDataset | None
    evaluation: EvalConfig
    compared: tuple[ImageRecord, ...] = ()


def training_devices(device: str, processes: int | None = None) -> tuple[str, ...]:
    """Return where each process trains.

    Args:
        device: One device as :func:`yoloqat.detectors.torch_device` reads it, or several with commas between.
        processes: How many train on the CPU; None takes one for each device.

    Raises:
        ConfigError: A device is not there or named twice, or the number of processes does not go with them.
    """
    names = tuple(str(torch_device(name)) for name in device.split(","))
    if processes is not None:
        check_int("processes", processes, 1)
        if len(names) > 1 or (processes > 1 and names != ("cpu",)):
            raise ConfigError(
                f"{processes} processes are to train on the device '{device}'",
                expected="`processes` for the CPU alone, or one device for each",
                hint="leave `processes` out and name the devices, as `device=0,1`",
            )
        names *= processes
    elif len(set(names)) < len(names) or (len(names) > 1 and "cpu" in names):
        raise ConfigError(
            f"the devices are '{device}'",
            expected="different CUDA devices, one for each process",
            hint="name each once; on a CPU set `processes`",
        )
    return names


def trainer_for(
    config: FinetuneConfig | SupervisionConfig,
    data: Path | None,
    places: Places,
    *,
    images: Path | None = None,
    floating: Path | None = None,
    skipped: list[Path] | None = None,
    held_out: bool = False,
) -> Trainer:
    """Return the trainer that a configuration is for.

    Args:
        config: How to train.
        data: The data set YAML, or None.
        places: Where each process trains, and what it takes there.
        images: A data set YAML or a directory of images without labels that distillation alone takes instead of ``data``.
        floating: As for :func:`ultralytics`.
        skipped: As for :func:`ultralytics`.
        held_out: As for :func:`supervised`.

    Raises:
        ConfigError: The processes, or images without labels, do not go with this way of training.
    """
    count = len(places.devices)
    if isinstance(config, SupervisionConfig):
        if count > 1:
            raise ConfigError(
                f"{count} processes do not go with distillation alone (stride is {config.stride})",
                expected="one device and one process",
                hint="name one",
            )
        return supervised(config, images or data, skipped, held_out=held_out)
    if images is not None:
        raise ConfigError(
            f"images without labels are to train on ('{images}') by the loss of the task",
            expected="them with distillation alone",
            hint="leave them out, or set `SupervisionConfig.stride`",
        )
    if config.processes != count:
        raise ConfigError(
            f"processes is {config.processes} and the devices are '{','.join(places.devices)}'",
            expected="a device for each process",
            hint=f"set `processes` to {count}; `yoloqat finetune` starts several",
        )
    return ultralytics(config, data, floating, places=places if count > 1 else None, skipped=skipped)


def ultralytics(
    config: FinetuneConfig,
    data: Path | None,
    floating: Path | None = None,
    *,
    places: Places | None = None,
    skipped: list[Path] | None = None,
) -> Trainer:
    """Return Ultralytics' own trainer on a data set YAML.

    Args:
        config: How to train.
        data: The data set YAML.
        floating: The float model's file, whose batch-norms are kept where ``config`` says so; None where it is still where the
            checkpoint says.
        places: For several processes; None trains in this one.
        skipped: Takes the images that do not decode, which Ultralytics leaves out; None refuses those whose head is broken.
    """

    def bind(detector: Detector, teacher: Detector, run: Run) -> Train:
        check_trainable(detector)
        training_arguments(config, run.device)
        norms = batch_norms(float_file(detector, floating)) if config.keep_bn else None
        if norms is not None:
            foldable(detector.module, norms)
        if data is None:
            raise unnamed(data)
        file = training_file(
            data,
            run.part_path("training-data", "data.yaml").parent,
            detector.info.names,
            channels=detector.info.channels,
        )

        def train(checkpoints: CheckpointManager, state: TrainingState | None) -> None:
            if places is not None:
                job = Job(
                    places.checkpoint,
                    floating,
                    file,
                    places.dataset,
                    places.evaluation,
                    config,
                    run.out,
                    run.out / LOGS,
                    run.threads,
                    places.devices,
                    checkpoints.state_path,
                    compared=places.compared,
                )
                train_together(job, checkpoints, run.progress)
                return
            finetune_ultralytics(
                detector,
                file,
                config,
                checkpoints=checkpoints,
                folder=run.out / LOGS,
                teacher=float_teacher(teacher.module) if config.weights.distils else None,
                norms=norms,
                device=run.device,
                state=state,
                progress=run.labelled("train"),
            )

        return train

    return Trainer(config, lambda: training_images(data, skipped), bind)


def supervised(
    config: SupervisionConfig, source: Path | None, skipped: list[Path] | None = None, *, held_out: bool = False
) -> Trainer:
    """Return the trainer that distils layer by layer.

    Args:
        config: How it trains.
        source: A data set YAML, whose training split is taken, or a directory of images.
        skipped: Takes the images that do not decode, which are left out; None refuses them.
        held_out: Of a directory leave out the half that epochs are judged on.
    """
    return distilled(config, lambda: training_images(source, skipped, held_out=held_out))


def distilled(config: SupervisionConfig, images: Callable[[], tuple[ImageRecord, ...]]) -> Trainer:
    """Return the trainer that distils layer by layer on given images.

    Args:
        config: How it trains.
        images: Gives them.
    """

    def bind(detector: Detector, teacher: Detector, run: Run) -> Train:
        def train(checkpoints: CheckpointManager, state: TrainingState | None) -> None:
            finetune_supervised(
                detector,
                teacher.module,
                images(),
                config,
                checkpoints=checkpoints,
                device=run.device,
                state=state,
                progress=run.labelled("train"),
            )

        return train

    return Trainer(config, images, bind)
