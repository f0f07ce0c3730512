"""Masks, keypoints and rotated boxes, scored by the validators of Ultralytics: the reference for what COCO's boxes leave out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from yoloqat.config.sizes import ImageSize, sides
from yoloqat.detectors.ultralytics_import import environment_kept, quiet, ultralytics_module
from yoloqat.errors import DataError, ModelError
from yoloqat.predictor import ModelInfo, Predictor

VALIDATORS = {
    "segment": ("models.yolo.segment", "SegmentationValidator", "M", "mask"),
    "pose": ("models.yolo.pose", "PoseValidator", "P", "pose"),
    "obb": ("models.yolo.obb", "OBBValidator", "B", "rotated"),
}
"""Per task: where its validator lives, its name, the letter of its own metrics there, and their name here."""


@dataclass(frozen=True)
class TaskImage:
    """One image with its labels.

    Attributes:
        path: The image file.
        labels: Lines of a YOLO label file of the task: polygons, keypoints or corners, as fractions of the image.
    """

    path: Path
    labels: tuple[str, ...]


class _Runner(nn.Module):
    """A predictor in the form that the validators take."""

    def __init__(self, predictor: Predictor, kpt_shape: tuple[int, int] | None) -> None:
        super().__init__()
        info = predictor.info
        self._predictor = predictor
        self.names = dict(info.names)
        self.stride = torch.tensor([float(info.stride)])
        self.end2end = info.end2end
        self.task = info.task
        if kpt_shape is not None:
            self.kpt_shape = kpt_shape

    def __deepcopy__(self, memo: dict[int, Any]) -> _Runner:
        """Return the object itself: the validators copy what they are given, and an engine cannot be copied."""
        return self

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Run the predictor; images (batch, channels, height, width), float32 in [0, 1]."""
        size, fixed = len(images), self._predictor.info.batch or len(images)
        array = np.ascontiguousarray(images.float().cpu().numpy())
        if size < fixed:  # a last, smaller batch for an engine whose batch is fixed
            array = np.concatenate((array, np.zeros((fixed - size, *array.shape[1:]), dtype=np.float32)))
        outputs = [torch.from_numpy(np.array(output[:size])) for output in self._predictor(array)]
        return outputs[0] if len(outputs) == 1 else outputs


def _place(image: Path, name: Path) -> None:
    """Give an image another name, by a link where the system lets this user make one."""
    try:
        name.symlink_to(image)
    except OSError:  # Windows lets administrators and developer mode
        shutil.copyfile(image, name)


@contextmanager
def _dataset(
    images: Sequence[TaskImage], info: ModelInfo, kpt_shape: tuple[int, int] | None
) -> Iterator[tuple[dict[str, Any], Path]]:
    """Lay the images and labels out as Ultralytics wants them; yield what it knows of a data set and where it may write.

    A copy, because its loaders leave cache files beside the labels.
    """
    with tempfile.TemporaryDirectory(prefix="yoloqat-") as name:
        root = Path(name)
        (root / "images").mkdir()
        (root / "labels").mkdir()
        for index, image in enumerate(images):
            stem = f"{index:07d}"
            _place(image.path.resolve(), root / "images" / f"{stem}{image.path.suffix}")
            (root / "labels" / f"{stem}.txt").write_text("\n".join(image.labels))
        content: dict[str, Any] = {"path": root, "val": str(root / "images"), "channels": info.channels}
        content |= {"names": info.names, "nc": len(info.names)}
        if kpt_shape is not None:
            content["kpt_shape"] = list(kpt_shape)
        yield content, root / "run"
        shutil.rmtree(root / "run", ignore_errors=True)


def _validated(validator: Any, model: _Runner, content: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a validator of Ultralytics.

    The parts of it that score are used, not the whole, which reads the data set from a file and fetches a font for plots.
    """
    validator.training, validator.device, validator.data = False, torch.device("cpu"), content
    validator.stride, validator.names, validator.jdict = int(model.stride.max()), model.names, []
    validator.dataloader = validator.get_dataloader(content["val"], validator.args.batch)
    validator.init_metrics(model)
    with torch.inference_mode():
        for number, loaded in enumerate(validator.dataloader):
            validator.batch_i = number
            batch = validator.preprocess(loaded)
            validator.update_metrics(validator.postprocess(model(batch["img"])), batch)
    stats: dict[str, Any] = validator.get_stats()
    return stats


def check_has_metrics(info: ModelInfo) -> None:
    """Check that a model's task has metrics beside those of its boxes.

    Raises:
        ModelError: It has not.
    """
    if info.task not in VALIDATORS:
        raise ModelError(
            f"the model's task is '{info.task}'",
            expected=f"one of {', '.join(VALIDATORS)}",
            hint="score its boxes alone",
        )


def task_metrics(
    predictor: Predictor,
    images: Sequence[TaskImage],
    *,
    imgsz: ImageSize,
    batch: int,
    conf: float = 0.001,
    iou: float = 0.7,
    max_det: int = 300,
    kpt_shape: tuple[int, int] | None = None,
) -> dict[str, float]:
    """Score a segmentation, pose or rotated-box model by the validator of Ultralytics for its task.

    No rectangular batches. Ultralytics interpolates precision at 101 points over its own matching, whose figures lie a little off
    those of pycocotools.

    Args:
        predictor: The model, in whatever runtime; its task decides what is scored.
        images: Images with the labels of that task.
        imgsz: Side of the square letterbox in pixels, or (height, width) of another.
        batch: Images per forward.
        conf: Scores of at most this are dropped.
        iou: Of two boxes of a class that overlap more than this, the less confident one is dropped.
        max_det: Detections kept per image.
        kpt_shape: Keypoints per object and numbers per keypoint, for the task ``"pose"``.

    Returns:
        mAP as fractions: ``mask_map50_95`` and ``mask_map50``, or ``pose_...``, or ``rotated_...``; for masks and poses
        also ``box_map50_95`` and ``box_map50`` by the same validator.

    Raises:
        ModelError: The model's task has no such metric.
        DataError: No image has a label of the task, or the keypoints' shape is missing.
    """
    info = predictor.info
    check_has_metrics(info)
    if not any(image.labels for image in images):
        raise DataError(
            f"none of {len(images)} images has a label for the task '{info.task}'",
            expected="polygons, keypoints or corners in the label files, or polygons in the COCO json",
            hint="add them, or score the boxes alone",
        )
    if info.task == "pose" and kpt_shape is None:
        raise DataError(
            "the data set has no kpt_shape",
            expected="keypoints per object and numbers per keypoint, e.g. kpt_shape: [17, 3]",
            hint="add it to the data set's YAML",
        )
    module, kind, letter, name = VALIDATORS[info.task]
    validator_class = getattr(ultralytics_module(module), kind)
    with environment_kept(), quiet(), _dataset(images, info, kpt_shape) as (content, run):
        settings = {
            "task": info.task,
            "imgsz": max(sides(imgsz)),
            "batch": info.batch or batch,
            "conf": conf,
            "iou": iou,
            "max_det": max_det,
            "rect": False,
            "device": "cpu",  # of the validator's own arithmetic; the predictor runs where it was put
            "workers": 0,
            "plots": False,
            "verbose": False,
        }
        validator = validator_class(args=settings, save_dir=run)
        if not isinstance(imgsz, int):  # the constructor keeps the longer side alone
            validator.args.imgsz = imgsz
        stats = _validated(validator, _Runner(predictor, kpt_shape), content)
    found = {f"{name}_map50_95": f"metrics/mAP50-95({letter})", f"{name}_map50": f"metrics/mAP50({letter})"}
    if letter != "B":
        found |= {"box_map50_95": "metrics/mAP50-95(B)", "box_map50": "metrics/mAP50(B)"}
    return {key: float(stats[source]) for key, source in found.items()}
