"""Any predictor on any data set: COCO mAP, per class and per size, and the paired interval of every difference."""

from yoloqat.evaluation.average_precision import mean_average_precision
from yoloqat.evaluation.coco import Metrics
from yoloqat.evaluation.detections import Detections
from yoloqat.evaluation.interval import Interval, Resampling, bootstrap, paired_difference, split_halves
from yoloqat.evaluation.matching import CategoryMatches, Matches, subset
from yoloqat.evaluation.scoring import Evaluation, detect, evaluate, score
from yoloqat.evaluation.store import DetectionStore

__all__ = [
    "CategoryMatches",
    "DetectionStore",
    "Detections",
    "Evaluation",
    "Interval",
    "Matches",
    "Metrics",
    "Resampling",
    "bootstrap",
    "detect",
    "evaluate",
    "mean_average_precision",
    "paired_difference",
    "score",
    "split_halves",
    "subset",
]
