"""The whole way from a float detector to the fastest INT8 engine within a loss that was allowed, with every decision's reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from yoloqat.config import EvalConfig
from yoloqat.config.calibration import SELECTIONS
from yoloqat.config.sizes import ImageSize
from yoloqat.config.target import DEFAULT_ENGINE, TENSORRT
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.engines.tensorrt import load_tensorrt
from yoloqat.errors import ConfigError, DependencyError
from yoloqat.pipeline.candidates import Judge
from yoloqat.pipeline.float_checkpoint import FloatCheckpoint
from yoloqat.pipeline.float_model import ONNX, FloatModel, Settings
from yoloqat.pipeline.float_onnx import FloatOnnx, check_without_torch
from yoloqat.pipeline.onnx_files import FLOAT
from yoloqat.pipeline.quantize_config import QuantizeConfig, Quantized
from yoloqat.pipeline.quantize_way import Way
from yoloqat.pipeline.refine import check_image_count
from yoloqat.pipeline.refine_steps import QUICK
from yoloqat.pipeline.run import Run, dataset_key, records_key
from yoloqat.pipeline.search_engines import read_profiles
from yoloqat.pipeline.stages import Stages
from yoloqat.results import counted

ENGINE_BITS = 8
LEAST_IMAGES = 4
ORT_IMAGES = 32
"""Calibration images on which ONNX Runtime's ranges are measured."""


def open_float_model(
    path: Path,
    out: Path,
    *,
    imgsz: ImageSize | None = None,
    names: Mapping[int, str] | None = None,
    target: str | None = None,
    outputs: Sequence[str] = (),
) -> FloatModel:
    """Open what can be taken the whole way: a float model that runs in torch, or a float ONNX file.

    Args:
        path: The file.
        out: The directory of the results, which takes ``float.onnx`` of an ONNX file.
        imgsz: The image size, needed where an ONNX file has none.
        names: Names of the classes, where an ONNX file has none.
        target: The engine that will run it.
        outputs: Of an ONNX file, tensors or nodes at which the heads end; found where none are named.

    Raises:
        ConfigError: An ONNX file has no image size and ``imgsz`` is None, or what is written to ``out`` would replace it.
        ModelError: It cannot be read, or is quantized already.
    """
    if path.resolve() in [(out / name).resolve() for name in (ONNX, FLOAT)]:
        raise ConfigError(
            f"the results in '{out}' would replace '{path}'",
            expected="a directory apart from the model",
            hint="name another `out`",
        )
    if path.suffix.lower() == ".onnx":
        return FloatOnnx(path, out, imgsz=imgsz, names=names, target=target, outputs=outputs)
    return FloatCheckpoint(path)


def quantize(
    model: FloatModel,
    records: Sequence[ImageRecord],
    config: QuantizeConfig,
    *,
    scoring: EvalConfig,
    run: Run,
    dataset: DetectionDataset | None,
    compared: Sequence[ImageRecord],
    training: Callable[[], Sequence[ImageRecord]] | None = None,
) -> Quantized:
    """Take a float detector the whole way; a run of the same inputs that was interrupted goes on.

    Args:
        model: The float model, see :func:`open_float_model`.
        records: Calibration images.
        config: What is wanted.
        scoring: Image size, batch and NMS.
        run: Where the files go, device, threads, who watches.
        dataset: The validation images; None where the noise is what is limited.
        compared: Images to measure the noise on; none of those that calibrate.
        training: Gives images to fine-tune on, which need no labels; None never fine-tunes.

    Raises:
        ConfigError: A drop is limited and there are no labels; a bit width is not 8; there are too few images,
            no engine to time, or a setting does not fit the model.
        EngineError: A profile does not fit the model.
        CalibrationError: There are too few images to refine on.
        YoloqatError: As each stage.
    """
    if config.max_drop is not None and dataset is None:
        raise ConfigError(
            f"max_drop is {config.max_drop} and the images have no labels",
            expected="labels to measure mAP on",
            hint="name `max_noise` instead, or a labelled data set",
        )
    for images in (compared, compared if dataset is None else dataset.images):
        if len(images) < LEAST_IMAGES:
            raise ConfigError(
                f"there {'is' if len(images) == 1 else 'are'} {counted(len(images), 'image')} to measure the loss on",
                expected=f"at least {LEAST_IMAGES}: one half chooses, the other gives the verdict",
                hint="name more images",
            )
    if model.lacks is not None:
        check_without_torch(
            Path(model.source["path"]),
            refine=(config.refine, ((), QUICK)),
            epochs=(config.epochs, (QuantizeConfig.epochs,)),
            calib_select=(config.calibration.select, SELECTIONS[:-1]),
        )
        config, training = replace(config, refine=()), None
    if config.refine:
        check_image_count(config.calibration.images)
    engine = _engine(config.quant.target)
    if engine is None and config.max_latency is not None and config.profiles is None:
        raise ConfigError(
            f"max_latency is {config.max_latency:g} and TensorRT is not installed",
            expected="an engine to time",
            hint="leave `max_latency` out, run it where TensorRT is, or name `int8_profile` and `float_profile`",
        )
    bits = {config.quant.activations.bits, config.quant.weights.bits}
    if bits != {ENGINE_BITS}:
        raise ConfigError(
            f"bits is {max(bits - {ENGINE_BITS})}",
            expected=f"{ENGINE_BITS}, the only width that engines run",
            hint="leave `bits` out, or calibrate and score other widths without an engine",
        )
    settings = Settings(
        model=model,
        records=records,
        quant=config.quant,
        calibration=config.calibration,
        scoring=scoring,
        refine=config.refine,
        engine=engine,
        images=lambda: records[:ORT_IMAGES],
        vnni=config.vnni,
    )
    layers = model.check(settings, run)  # refuses patterns and sizes that do not fit, before the float model is scored
    nodes = dict(zip(layers, layers, strict=True))
    profiles = read_profiles(config.profiles, config.quant.target or DEFAULT_ENGINE, nodes, scoring.imgsz)
    key = {
        "weights": model.key,
        "calibration": records_key(records),
        "compared": records_key(compared),
        "data": None if dataset is None else dataset_key(dataset),
        "limit": [config.max_drop, config.max_noise],
    }
    way = Way(settings, config, Stages(run, key), Judge(run, settings, dataset, compared), run, training, profiles)
    return way.walked()


def _engine(target: str | None) -> str | None:
    """Return the runtime to build for; None where TensorRT is wanted and is not installed."""
    engine = target or DEFAULT_ENGINE
    if engine == TENSORRT.name:
        try:
            load_tensorrt()
        except DependencyError:
            return None
    return engine
