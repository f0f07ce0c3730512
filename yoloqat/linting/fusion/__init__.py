"""A model of how TensorRT fuses the layers of a QDQ file: predictions from the file alone, each by a rule with a source."""

from yoloqat.linting.fusion.explain import Prediction, Total, predict_file, predict_model
from yoloqat.linting.fusion.gpus import DEFAULT_GPU, GPUS, Gpu
from yoloqat.linting.fusion.losses import Loss
from yoloqat.linting.fusion.model import FLOAT, HALF, INT8, Kind, PredictedLayer
from yoloqat.linting.fusion.predict import predict_layers
from yoloqat.linting.fusion.rules import FUSION_RULES, Basis, FusionRule
from yoloqat.linting.fusion.tables import fusion_rules_table, gpus_table, prediction_tables

__all__ = [
    "DEFAULT_GPU",
    "FLOAT",
    "FUSION_RULES",
    "GPUS",
    "HALF",
    "INT8",
    "Basis",
    "FusionRule",
    "Gpu",
    "Kind",
    "Loss",
    "PredictedLayer",
    "Prediction",
    "Total",
    "fusion_rules_table",
    "gpus_table",
    "predict_file",
    "predict_layers",
    "predict_model",
    "prediction_tables",
]
