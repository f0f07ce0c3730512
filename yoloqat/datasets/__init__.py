"""Images, boxes and batches: the same letterbox for calibration, validation and engines."""

from yoloqat.datasets.batches import Batch, BatchPlan, plan_batches, read_batches
from yoloqat.datasets.calibration import calibration_images
from yoloqat.datasets.categories import match_categories, warn_of_names
from yoloqat.datasets.letterbox import Letterboxed, letterbox
from yoloqat.datasets.loading import load_dataset
from yoloqat.datasets.records import DetectionDataset, ImageRecord
from yoloqat.datasets.task_labels import task_labels
from yoloqat.datasets.unlabelled import comparison_images, spread

__all__ = [
    "Batch",
    "BatchPlan",
    "DetectionDataset",
    "ImageRecord",
    "Letterboxed",
    "calibration_images",
    "comparison_images",
    "letterbox",
    "load_dataset",
    "match_categories",
    "plan_batches",
    "read_batches",
    "spread",
    "task_labels",
    "warn_of_names",
]
