"""The public functions: each takes artifacts and frozen settings, changes nothing in place, and needs no directory.

They run the stages that the command line runs, in a temporary directory that is removed afterwards. Devices are named ``"auto"``
(a GPU where there is one), ``"cpu"`` or by a CUDA index.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from yoloqat.calibration import Statistics
from yoloqat.config import CalibrationConfig, EvalConfig, ExportConfig, MethodSpec, QuantConfig, Recipe
from yoloqat.config.arguments import checked_arguments
from yoloqat.config.detecting import DiffConfig, PredictConfig
from yoloqat.config.method import DEFAULT_METHODS, PER_LAYER
from yoloqat.config.sizes import ImageSize, square_side
from yoloqat.datasets import ImageRecord
from yoloqat.datasets.unlabelled import COMPARED
from yoloqat.detectors import Detector, load_checkpoint, load_detector, save_checkpoint, torch_device, torch_threads
from yoloqat.detectors.leave_float import leave_float
from yoloqat.errors import ConfigError
from yoloqat.evaluation import Evaluation, Interval
from yoloqat.evaluation import paired_difference as _paired_difference
from yoloqat.evaluation.reference import Fidelity
from yoloqat.finetuning import BEST, FinetuneConfig, SupervisionConfig
from yoloqat.linting import TRT_VERSIONS, TensorRTVersion, findings_table, lint_file, lint_results
from yoloqat.pipeline import tables
from yoloqat.pipeline.bench import BenchConfig, BenchResult, bench_models
from yoloqat.pipeline.compare import compare_methods as _compare_methods
from yoloqat.pipeline.data import Dataset
from yoloqat.pipeline.diff import DiffResult, diff_models
from yoloqat.pipeline.engine import BuildConfig, BuildResult, build_and_score, unnamed_images
from yoloqat.pipeline.export_check import ExportResult, export_and_check
from yoloqat.pipeline.fidelity import fidelity_to
from yoloqat.pipeline.finetune import Scoring, check_quantized, float_detector
from yoloqat.pipeline.finetune import finetune as _finetune
from yoloqat.pipeline.finetune_trainers import Places, trainer_for, training_images
from yoloqat.pipeline.models import common_size, open_model
from yoloqat.pipeline.noise_mode import run_noise_budget
from yoloqat.pipeline.predict import Predictions, predict_source
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.quantize import open_float_model
from yoloqat.pipeline.quantize import quantize as _quantize
from yoloqat.pipeline.quantize_config import MAX_DROP, QuantizeConfig
from yoloqat.pipeline.refine import check_refinable, refine_detector
from yoloqat.pipeline.refine_steps import NONE, QUICK, steps_of
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.search import open_searched, run_search
from yoloqat.pipeline.search_table import search_table
from yoloqat.pipeline.search_torch import SearchedCheckpoint
from yoloqat.pipeline.sensitivity import ScanOptions, run_scan
from yoloqat.progress import Progress, silent
from yoloqat.report import plots
from yoloqat.results import Result, counted
from yoloqat.searching.profiles import ProfileFiles
from yoloqat.searching.settings import SearchConfig
from yoloqat.sensitivity.settings import NOISE, ScanConfig

__all__ = [
    "Dataset",
    "bench",
    "build_engine",
    "calibrate",
    "collect_statistics",
    "compare_methods",
    "diff",
    "evaluate",
    "export_onnx",
    "fidelity",
    "finetune",
    "lint",
    "load",
    "noise_budget",
    "paired_difference",
    "predict",
    "quantize",
    "rank_sensitivity",
    "refine",
    "search",
]


@contextmanager
def _scratch(device: str, progress: Progress) -> Iterator[Run]:
    """Give a run whose files go to a directory that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="yoloqat-") as folder, torch_threads(None) as threads:
        yield Run(Path(folder), torch_device(device), threads, progress)


@contextmanager
def _saved(detector: Detector, device: str, progress: Progress) -> Iterator[tuple[Path, Run]]:
    """Give the checkpoint of a calibrated detector and a run, as scans take them.

    Raises:
        ModelError: The detector is not quantized.
    """
    check_quantized(detector, Path(detector.source.path))
    with _scratch(device, progress) as run:
        checkpoint = run.out / "model.safetensors"
        save_checkpoint(detector, checkpoint)
        yield checkpoint, run


@contextmanager
def _searched(model: Detector | str | Path, device: str, progress: Progress) -> Iterator[tuple[Path, Run]]:
    """Give the file of a calibrated model, written where it is a detector, and a run."""
    if isinstance(model, Detector):
        with _saved(model, device, progress) as found:
            yield found
    else:
        with _scratch(device, progress) as run:
            yield Path(model), run


@checked_arguments
def load(path: str | Path) -> Detector:
    """Load a detector that runs in torch.

    Args:
        path: A ``.pt`` of Ultralytics or of the original YOLOv5 and YOLOv7, a yoloqat checkpoint, or the bare name of weights
            that Ultralytics offers, such as ``yolov8n.pt``. Nothing in the file is executed.

    Raises:
        ModelError: There is no such file, or it cannot be loaded.
    """
    return load_detector(Path(path))


@dataclass(frozen=True, eq=False, repr=False)
class CollectedStatistics(Result):
    """What one pass over the calibration images found: enough for every method.

    Attributes:
        statistics: A histogram for every quantizer of activations.
        records: The images.
        quant: What was quantized, and so where the quantizers sit.
        config: How the images were chosen and counted.
        imgsz: Image size in pixels.
        batch: Images per forward.
    """

    statistics: Statistics
    records: tuple[ImageRecord, ...]
    quant: QuantConfig
    config: CalibrationConfig
    imgsz: ImageSize
    batch: int


def _check_same(target: str, other: str | None, where: str) -> None:
    """Check that a target is the one that settings name.

    Raises:
        ConfigError: It is not.
    """
    if other != target:
        raise ConfigError(
            f"target is {target!r} and that of {where} is {other!r}",
            expected="the same in both",
            hint=f"name it in `{where}` alone",
        )


@checked_arguments
def collect_statistics(
    detector: Detector,
    images: Sequence[ImageRecord],
    *,
    quant: QuantConfig | None = None,
    target: str | None = None,
    config: CalibrationConfig | None = None,
    imgsz: ImageSize | None = None,
    batch: int = EvalConfig.batch,
    device: str = "auto",
    progress: Progress = silent,
) -> CollectedStatistics:
    """Run calibration images through the float model and collect a histogram for every quantizer.

    Args:
        detector: A float detector; not changed.
        images: From :meth:`Dataset.calibration`.
        quant: What to quantize; None takes the defaults at 8 bits, symmetric unless ``target`` decides otherwise.
        target: The engine that will run the model: ``"tensorrt"``, ``"openvino"`` or ``"onnxruntime"``; None takes that of
            ``quant``.
        config: Bins and sampling; None takes the defaults.
        imgsz: Image size in pixels; None takes the detector's own.
        batch: Images per forward.
        device: Where it runs.
        progress: Told of every finished batch.

    Raises:
        CalibrationError: A layer's input holds NaN or Inf.
        ConfigError: A setting does not fit the model.
        DataError: An image does not decode.
        ModelError: The detector is quantized already.
        PatternError: A pattern matches no layer.
    """
    if quant is not None and target is not None:
        _check_same(target, quant.target, "quant")
    quant, config = quant or QuantConfig(target=target), replace(config or CalibrationConfig(), images=len(images))
    size = detector.imgsz if imgsz is None else imgsz
    with _scratch(device, progress) as run:
        ptq = Ptq(copy.deepcopy(detector), images, quant=quant, calibration=config, imgsz=size, batch=batch, run=run)
        found = ptq.statistics
    ranges = {name: [histogram.low, histogram.high] for name, histogram in found.histograms.items()}
    results = {"calibration_images": found.images, "calibration_seconds": found.seconds, "ranges": ranges}
    title = f"{Path(detector.source.path).name}, {counted(len(ranges), 'activation scale')}, {counted(found.images, 'image')}"
    return CollectedStatistics(
        results, (tables.ranges_table(title, ranges),), found, tuple(images), quant, config, size, batch
    )


def _quantized(
    detector: Detector,
    statistics: CollectedStatistics,
    quant: QuantConfig | None,
    run: Run,
    methods: Sequence[MethodSpec],
) -> Ptq:
    """Return a swapped copy of a detector with the statistics that were collected on it.

    Raises:
        CalibrationError: They were collected on another detector, or with other settings.
    """
    return Ptq(
        copy.deepcopy(detector),
        statistics.records,
        quant=quant or statistics.quant,
        calibration=statistics.config,
        imgsz=statistics.imgsz,
        batch=statistics.batch,
        run=run,
        candidates=[method for method in methods if method.kind != PER_LAYER] or DEFAULT_METHODS[:-1],
        statistics=statistics.statistics,
    )


@checked_arguments
def calibrate(
    detector: Detector,
    statistics: CollectedStatistics,
    method: str | MethodSpec = "mse",
    *,
    quant: QuantConfig | None = None,
    target: str | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Detector:
    """Return a calibrated copy of a float detector.

    Args:
        detector: The detector that the statistics were collected on.
        statistics: From :func:`collect_statistics`.
        method: ``"max"``, ``"entropy"``, ``"mse"``, ``"percentile-99.9"`` or ``"per-layer"``.
        quant: Another bit width or weight scheme than the statistics were collected with; None takes theirs.
        target: Another engine than the statistics were collected for, whose quantizers sit in the same places; None takes that
            of ``quant``.
        device: Where `per-layer` runs.
        progress: Told of every finished quantizer.

    Returns:
        A new detector; ``.save(path)`` writes its checkpoint.

    Raises:
        CalibrationError: The statistics are of another detector or of other quantizers.
        ConfigError: The method or the target is unknown, or ``quant`` is for another target.
    """
    spec = MethodSpec.parse(method) if isinstance(method, str) else method
    if quant is not None and target is not None:
        _check_same(target, quant.target, "quant")
    elif target is not None:
        quant = statistics.quant.for_target(target)
    with _scratch(device, progress) as run:
        ptq = _quantized(detector, statistics, quant, run, ())
        ptq.apply(spec)
    return ptq.detector


@checked_arguments
def evaluate(
    model: Detector | str | Path,
    data: Dataset,
    *,
    config: EvalConfig | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Evaluation:
    """Score a model by COCO mAP.

    Args:
        model: A detector, or the file of any model: ``.pt``, checkpoint, ``.onnx``, OpenVINO directory, ``.engine``.
        data: With labels.
        config: Image size, batch and suppression; None takes the defaults at the model's own image size.
        device: Where it runs.
        progress: Told of every finished batch.

    Raises:
        ConfigError: The image size or batch does not fit the model.
        DataError: Class names do not match, or an image or a label cannot be read.
        ModelError: The file cannot be loaded, or the model's outputs are unfit.
    """
    with _scratch(device, progress) as run:
        opened = open_model(model if isinstance(model, Detector) else Path(model), run)
        found = run.evaluate(
            opened.predictor,
            data.validation,
            config or EvalConfig(imgsz=opened.imgsz),
            label=opened.name,
            model_key=opened.key,
        )
    return replace(found, drawn_by=plots.classes_plot)


@checked_arguments
def fidelity(
    a: Detector | str | Path,
    b: Detector | str | Path,
    images: Dataset | str | Path | Sequence[ImageRecord],
    *,
    config: EvalConfig | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Fidelity:
    """Measure how far a model's raw outputs are from the float model's: the noise d and its companions. No labels are needed.

    Args:
        a: The float model, a detector or the file of any model; QFloat, to see what an engine adds to it. Not changed.
        b: The model that is compared with it, of the same classes, in whatever runtime. Not changed.
        images: A data set, whose :meth:`Dataset.comparison` images are taken; a directory, which is taken as
            :meth:`Dataset.from_images` takes it; or the images themselves.
        config: Image size, batch and NMS settings; None takes the defaults at the size that a model is fixed to, else at that
            of ``a``.
        device: Where they run.
        progress: Told of every finished batch.

    Raises:
        ConfigError: The image size does not fit a model.
        DataError: There are too few images, or one does not decode.
        ModelError: A file cannot be loaded, or the classes, the tasks or the outputs of the two differ.
    """
    records = _compared(images)
    with _scratch(device, progress) as run:
        models = [open_model(model if isinstance(model, Detector) else Path(model), run) for model in (a, b)]
        config = config or EvalConfig(imgsz=common_size(*models))
        first, second = (model.predictor for model in models)
        return fidelity_to(first, second, records, config, run=run, names=(models[0].name, models[1].name))


def _compared(images: Dataset | str | Path | Sequence[ImageRecord]) -> Sequence[ImageRecord]:
    """Return the images that two models are compared on, as :func:`fidelity` takes them."""
    if isinstance(images, str | Path):
        images = Dataset.from_images(images)
    return images.comparison() if isinstance(images, Dataset) else images


@checked_arguments
def diff(
    a: Detector | str | Path,
    b: Detector | str | Path,
    images: Dataset | str | Path | Sequence[ImageRecord],
    *,
    config: DiffConfig | None = None,
    scoring: EvalConfig | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> DiffResult:
    """Find what changes in the boxes of a model against those of the float model, and the threshold that suits it.

    Args:
        a: The float model, a detector or the file of any model. Not changed.
        b: The model that is compared with it, of the same classes, in whatever runtime. Not changed.
        images: As in :func:`fidelity`; they need no labels.
        config: The threshold that the models work at, and when a box has moved; None takes the defaults.
        scoring: Image size, batch and NMS settings; None takes the defaults at the size that a model is fixed to, else at that
            of ``a``.
        device: Where they run.
        progress: Told of every finished batch.

    Returns:
        The results of ``yoloqat diff``; ``.save(directory)`` draws what changes most and writes all boxes for FiftyOne.

    Raises:
        YoloqatError: As :func:`fidelity`.
    """
    records = _compared(images)
    with _scratch(device, progress) as run:
        first, second = (open_model(model if isinstance(model, Detector) else Path(model), run) for model in (a, b))
        scoring = scoring or EvalConfig(imgsz=common_size(first, second))
        return diff_models(first, second, records, scoring, config or DiffConfig(), run=run)


@checked_arguments
def predict(
    model: Detector | str | Path,
    source: str | Path,
    *,
    config: PredictConfig | None = None,
    imgsz: ImageSize | None = None,
    pictures: str | Path | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Predictions:
    """Run any model on images or a video.

    Args:
        model: A detector, which is not changed, or the file of any model.
        source: An image, a directory of images, or a video.
        config: Confidence, NMS and batch; None takes the defaults.
        imgsz: Image size in pixels; None takes the model's own.
        pictures: Directory in which ``pictures`` is made, with every image drawn; None draws nothing.
        device: Where it runs.
        progress: Told of every finished batch.

    Returns:
        The results of ``yoloqat predict``.

    Raises:
        ConfigError: The image size or batch does not fit the model.
        DataError: The source is missing or does not decode.
        ModelError: The file cannot be loaded, or the model's outputs are unfit.
        OutputError: A picture cannot be written.
    """
    with _scratch(device, progress) as run:
        opened = open_model(model if isinstance(model, Detector) else Path(model), run)
        scoring = (config or PredictConfig()).scoring(opened.imgsz if imgsz is None else imgsz)
        folder = None if pictures is None else Path(pictures)
        return predict_source(opened, Path(source), scoring, run=run, pictures=folder)


@checked_arguments
def paired_difference(a: Evaluation, b: Evaluation, *, resamples: int = 1000, seed: int = 0) -> Interval:
    """Return mAP50-95 of ``a`` minus that of ``b`` with its 95 % interval, by a paired bootstrap over the images.

    Args:
        a: From :func:`evaluate`; the float model, so that a drop is positive.
        b: Another model on the same images.
        resamples: Bootstrap resamples.
        seed: Seeds them.

    Raises:
        DataError: The two were scored on different images.
    """
    return _paired_difference(a.matches, b.matches, resamples=resamples, seed=seed)


@checked_arguments
def compare_methods(
    detector: Detector,
    statistics: CollectedStatistics,
    data: Dataset,
    *,
    methods: Sequence[str | MethodSpec] = DEFAULT_METHODS,
    quant: QuantConfig | None = None,
    config: EvalConfig | None = None,
    fidelity_images: int = COMPARED,
    refine: str | Sequence[str] = NONE,
    workers: int = 1,
    ray: str | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Result:
    """Compare calibration methods, computed from one collection, by their noise and, with labels, by their mAP.

    Args:
        detector: The float detector that the statistics were collected on; not changed.
        statistics: From :func:`collect_statistics`.
        data: With labels, or images alone, which give the noise.
        methods: What to compare.
        quant: As in :func:`calibrate`.
        config: How to score; None takes the defaults at the image size of the statistics.
        fidelity_images: On how many images the noise is measured.
        refine: The steps of :func:`refine` that the recommended method goes through besides, or ``"all"``.
        workers: Local processes that share the evaluations, or workers of the Ray cluster.
        ray: Address of a Ray cluster, ``"local"`` for a new one on this machine.
        device: Where it runs.
        progress: Told of every finished step.

    Returns:
        The results of ``yoloqat compare``.

    Raises:
        YoloqatError: As :func:`calibrate` and :func:`evaluate`.
    """
    specs = [MethodSpec.parse(method) if isinstance(method, str) else method for method in methods]
    config = config or EvalConfig(imgsz=statistics.imgsz)
    with _scratch(device, progress) as scratch, scratch.pooled(workers, ray) as run:
        ptq = _quantized(detector, statistics, quant, run, specs)
        dataset, images = data.validation if data.labelled else None, data.comparison(fidelity_images)
        seed = statistics.config.seed
        results = _compare_methods(
            ptq, dataset, specs, config, run=run, images=images, seed=seed, refine=steps_of(refine)
        )
    bits = (quant or statistics.quant).activations.bits
    title = f"{Path(detector.source.path).name}, {len(ptq.layers)} layers at {bits} bits"
    return Result(results, tables.comparison_tables(title, results), drawn_by=plots.methods_plot)


@checked_arguments
def rank_sensitivity(
    detector: Detector,
    data: Dataset,
    *,
    scan: ScanConfig | None = None,
    options: ScanOptions | None = None,
    config: EvalConfig | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Result:
    """Rank layers by what they cost in COCO mAP, one switched at a time, after their noise budget.

    Args:
        detector: Calibrated; not changed.
        data: With labels.
        scan: What to switch; None takes leave-one-out by layer.
        options: Cost, workers, seed; None scans everything in this process.
        config: How to score; None takes the defaults at the detector's own image size.
        device: Where it runs.
        progress: Told of every finished piece.

    Returns:
        The results of ``yoloqat sensitivity``.

    Raises:
        CalibrationError: A quantizer has no range.
        YoloqatError: As :func:`evaluate`.
    """
    with _saved(detector, device, progress) as (checkpoint, run):
        results = run_scan(
            checkpoint,
            data.validation,
            config or EvalConfig(imgsz=detector.imgsz),
            scan=scan or ScanConfig(),
            options=options or ScanOptions(),
            run=run,
        ).results
    table = tables.ranking_table(Path(detector.source.path).name, results)
    return Result(results, (table,), drawn_by=plots.effects_plot)


@checked_arguments
def noise_budget(
    detector: Detector,
    data: Dataset,
    *,
    scan: ScanConfig | None = None,
    options: ScanOptions | None = None,
    config: EvalConfig | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> Result:
    """Measure what each quantizer and each layer alone adds to the noise of the raw outputs; labels are not needed.

    Args:
        detector: Calibrated; not changed.
        data: Images, with or without labels.
        scan: The granularity and the bits; None takes layers at their own bits. The mode plays no part.
        options: How many images at most, and the drop that the ignore-list stays within; None takes the defaults.
        config: Image size and batch; None takes the defaults at the detector's own image size.
        device: Where it runs.
        progress: Told of every finished item.

    Returns:
        The results of ``yoloqat sensitivity --mode noise``: ``items`` by falling share, ``d``, ``d_predicted``, ``curve``, and
        in ``ignore`` the layers to leave float.

    Raises:
        CalibrationError: A quantizer has no range.
        ConfigError: A setting does not fit the model.
        DataError: There are too few images.
        ModelError: The detector is not quantized.
    """
    options = options or ScanOptions()
    with _saved(detector, device, progress) as (checkpoint, run):
        results = run_noise_budget(
            checkpoint,
            data.comparison(options.fidelity_images),
            config or EvalConfig(imgsz=detector.imgsz),
            scan=replace(scan or ScanConfig(), mode=NOISE),
            options=options,
            run=run,
        )
    table = tables.noise_table(Path(detector.source.path).name, results)
    return Result(results, (table,), drawn_by=plots.budget_plot)


@dataclass(frozen=True, eq=False, repr=False)
class FloatSetResult(Result):
    """What a search found.

    Attributes:
        recipe: Makes the chosen engine again; ``.save("recipe.yaml")`` is what the commands take.
        detector: The calibrated detector with the chosen layers float; None of an ONNX file, which the recipe calibrates.
        met: Whether the chosen set keeps to the goal.
    """

    recipe: Recipe
    detector: Detector | None
    met: bool


@checked_arguments
def search(
    detector: Detector | str | Path,
    data: Dataset,
    *,
    max_drop: float | None = None,
    max_noise: float | None = None,
    max_latency: float | None = None,
    vnni: bool = False,
    budget: Result | None = None,
    int8_profile: Sequence[str | Path] = (),
    float_profile: Sequence[str | Path] = (),
    config: EvalConfig | None = None,
    fidelity_images: int = COMPARED,
    workers: int = 1,
    ray: str | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> FloatSetResult:
    """Choose the layers to leave float within a drop, a noise or a latency, along the whole frontier.

    Args:
        detector: Calibrated; not changed. Or the file of one, or the ``model.onnx`` that calibrating a float ONNX file wrote.
        data: Images; with labels the mAP of the chosen engine is measured too.
        max_drop: The expected drop of mAP to stay within, as a share of the float model's where there are no labels; or
        max_noise: the noise d; or
        max_latency: milliseconds of one image. One of the three.
        vnni: The engine will run on processors with VNNI alone, as in ``BuildConfig``.
        budget: From :func:`noise_budget` on the same detector; None measures it.
        int8_profile: What trtexec wrote of the detector's engine with every layer in INT8, which latencies are predicted from;
            for the target ``"tensorrt"``.
        float_profile: The same of its float engine; both or neither.
        config: How to score; None takes the defaults at the detector's own image size.
        fidelity_images: On how many images the noise is measured; one half chooses, the other confirms.
        workers: Local processes that share the evaluations, or workers of the Ray cluster.
        ray: Address of a Ray cluster, ``"local"`` for a new one on this machine.
        device: Where torch runs.
        progress: Told of every finished step.

    Returns:
        The results of ``yoloqat search``.

    Raises:
        ConfigError: The budget is of another detector, or a setting does not fit.
        EngineError: An engine cannot be built or run, or a profile does not fit.
        ModelError: The detector is not quantized, or a profile cannot be read.
    """
    profiles = ProfileFiles.of(int8_profile, float_profile)
    with _searched(detector, device, progress) as (path, scratch), scratch.pooled(workers, ray) as run:
        model = open_searched(path, run)
        found = run_search(
            model,
            data.comparison(fidelity_images),
            config or EvalConfig(imgsz=model.imgsz),
            search=SearchConfig(max_drop, max_noise, max_latency, vnni=vnni),
            run=run,
            budget=None if budget is None else budget.results,
            dataset=data.validation if data.labelled else None,
            profiles=profiles,
        )
    layers = found.chosen.found.layers
    chosen = leave_float(model.detector, layers) if isinstance(model, SearchedCheckpoint) else None
    return FloatSetResult(found.results, (search_table(found),), found.recipe, chosen, found.met)


@dataclass(frozen=True, eq=False, repr=False)
class RefineResult(Result):
    """What a refinement gave.

    Attributes:
        detector: The refined detector; it equals the calibrated one where no step was kept.
    """

    detector: Detector


@checked_arguments
def refine(
    detector: Detector,
    data: Dataset,
    *,
    steps: str | Sequence[str] = QUICK,
    count: int = CalibrationConfig.images,
    seed: int = CalibrationConfig.seed,
    imgsz: ImageSize | None = None,
    batch: int = EvalConfig.batch,
    device: str = "auto",
    progress: Progress = silent,
) -> RefineResult:
    """Refine a calibrated detector without labels: the same layers and ranges with less noise, at no cost when it runs.

    Args:
        detector: From :func:`calibrate`; not changed.
        data: Gives the calibration images; every fourth takes no part and judges.
        steps: In this order, of ``"bias"``, the bias of least squared error after the activation, channel by channel,
            ``"ranges"``, all activation ranges moved together by the gradient of the noise, and ``"rounding"``, the rounding of
            weights, with biases and ranges, learned block by block, which takes minutes; or ``"all"``.
        count: How many images.
        seed: Chooses them.
        imgsz: Image size in pixels; None takes the detector's own.
        batch: Images per forward where the noise is measured.
        device: Where it runs.
        progress: Told of every finished layer.

    Returns:
        The keys that `yoloqat calibrate --refine` adds to its results, and the refined ``detector``.

    Raises:
        CalibrationError: There are too few images.
        ConfigError: A step is unknown, or a setting does not fit the detector.
        DataError: There are too few images to choose from, or one does not decode.
        ModelError: The detector is not calibrated, or was refined or fine-tuned before.
    """
    check_refinable(detector)
    refined = copy.deepcopy(detector)
    size = detector.imgsz if imgsz is None else imgsz
    with _scratch(device, progress) as run:
        records = data.calibration(count, seed=seed)
        results = refine_detector(refined, records, steps=steps_of(steps), imgsz=size, batch=batch, run=run)
    return RefineResult(results, (tables.refine_table(results),), refined)


@dataclass(frozen=True, eq=False, repr=False)
class FinetuneResult(Result):
    """What fine-tuning gave.

    Attributes:
        detector: The best epoch's detector; the calibrated one where no epoch was better.
    """

    detector: Detector


@checked_arguments
def finetune(
    detector: Detector,
    data: Dataset,
    *,
    training: FinetuneConfig | SupervisionConfig | None = None,
    config: EvalConfig | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> FinetuneResult:
    """Fine-tune a calibrated detector under fake quantization (QAT), and score every epoch.

    Args:
        detector: Calibrated; not changed.
        data: A data set YAML with a training split; with a :class:`SupervisionConfig` images without labels do, to train on one
            half of them and to judge epochs on the other.
        training: How to train: on Ultralytics' trainer, or layer by layer without labels; None takes the defaults.
        config: How epochs are scored; None takes the defaults at the detector's own image size.
        device: Where it runs.
        progress: Told of every finished step.

    Raises:
        ConfigError: The images to train on are not named, or a setting does not fit the model.
        ModelError: The detector is not quantized.
    """
    check_quantized(detector, Path(detector.source.path))
    if training is None:
        side = square_side(detector.imgsz, reason="training", hint="pass training=FinetuneConfig(imgsz=...)")
        training = FinetuneConfig(imgsz=side)
    config = config or EvalConfig(imgsz=detector.imgsz)
    trained = copy.deepcopy(detector)
    with _scratch(device, progress) as run:
        teacher = float_detector(trained)
        dataset = data.validation if data.labelled else None
        places = Places((str(run.device),), Path(detector.source.path), dataset, config)
        unlabelled = data.calibration_source if isinstance(training, SupervisionConfig) else None
        held_out = not data.labelled and data.images == data.calibration_source
        trainer = trainer_for(training, data.yaml, places, images=unlabelled, held_out=held_out)
        results = _finetune(
            trained,
            teacher,
            trainer.bind(trained, teacher, run),
            Scoring(data.validation if data.labelled else None, config, run, data.comparison()),
            config=trainer.config,
            inputs={"checkpoint": detector.source.sha256, "images": trainer.images_key()},
        )
        best = load_checkpoint(run.out / BEST)
    table = tables.training_table(Path(detector.source.path).name, results)
    return FinetuneResult(results, (table,), best, drawn_by=plots.training_plot)


@checked_arguments
def lint(
    path: str | Path,
    *,
    trt_version: str | TensorRTVersion = TRT_VERSIONS[0],
    target: str | TensorRTVersion | None = None,
) -> Result:
    """Find what is wrong with a QDQ ONNX file of any tool, without a GPU.

    Args:
        path: The file.
        trt_version: The TensorRT that will read it: ``"tensorrt-10"`` or ``"tensorrt-11"``.
        target: Deprecated: what 0.1.0 called ``trt_version``.

    Returns:
        The results of ``yoloqat lint``: counts and findings.

    Raises:
        ConfigError: The version is unknown.
        ModelError: It is no ONNX file.
    """
    asked = trt_version if target is None else target
    known = {entry.name: entry for entry in TRT_VERSIONS}
    found = known.get(asked) if isinstance(asked, str) else asked
    if found is None:
        raise ConfigError(f"trt_version is {asked!r}", expected=f"one of {', '.join(known)}", hint="choose one")
    results = lint_results(lint_file(Path(path), trt_version=found))
    return Result(results, (findings_table(str(path), results),))


@checked_arguments
def export_onnx(
    detector: Detector,
    path: str | Path,
    *,
    config: ExportConfig | None = None,
    target: str | None = None,
    data: Dataset | None = None,
    progress: Progress = silent,
) -> ExportResult:
    """Write a detector as ONNX, with Q/DQ pairs where it is quantized; lint the file, and compare it with the detector.

    Args:
        detector: Calibrated, or float; not changed.
        path: The file to write.
        config: Image size, batch, opset, FP16, suppression; None takes the defaults at the detector's own image size.
        target: The engine that will run the file; None takes that of ``config``, or the one it was calibrated for, if any.
        data: The images to compare on, without mAP where they have no labels; None compares nothing, and of a float detector
            nothing is compared, with a warning.
        progress: Told of every finished step.

    Returns:
        The results of ``yoloqat export``; ``failed`` says why a check did not pass.

    Raises:
        CalibrationError: A quantizer has no range.
        ConfigError: A setting does not fit the detector.
        ExportError: The detector cannot be written.
        OutputError: The file cannot be written.
    """
    config = config or ExportConfig(imgsz=detector.imgsz)
    if target is not None:
        _check_same(target, config.target or target, "config")
        config = replace(config, target=target)
    with _scratch("cpu", progress) as run:
        dataset = data.validation if data is not None and data.labelled else None
        compared = () if data is None else data.comparison()
        return export_and_check(
            copy.deepcopy(detector), Path(path), config, run=run, dataset=dataset, compared=compared
        )


@checked_arguments
def build_engine(
    onnx: str | Path,
    out: str | Path | None = None,
    *,
    config: BuildConfig | None = None,
    target: str | None = None,
    data: Dataset | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> BuildResult:
    """Build an engine from an ONNX file, say what of it runs in INT8, and score it where there are labels.

    Args:
        onnx: A QDQ file.
        out: The directory that takes the engine; None takes the file's own.
        config: The runtime and its settings; None takes the defaults.
        target: The engine to build; None takes that of ``config``, else the file's own, else OpenVINO.
        data: Scores the engine where it has labels, gives the images on which its noise is measured, and those on which ONNX
            Runtime's ranges are.
        device: Where a float model or a TensorRT engine runs.
        progress: Told of every finished step.

    Returns:
        The results of ``yoloqat build``, and the engine's ``path``.

    Raises:
        DependencyError: The runtime is not installed.
        EngineError: It cannot build or run the model.
        YoloqatError: As :func:`evaluate`.
    """
    onnx, config, labelled = Path(onnx), config or BuildConfig(), data is not None and data.labelled
    if target is not None:
        _check_same(target, config.engine or target, "config")
        config = replace(config, engine=target)
    count = config.calibration_images
    compared = data.comparison() if data is not None and (labelled or data.images is not None) else ()
    with _scratch(device, progress) as run:
        return build_and_score(
            onnx,
            onnx.absolute().parent if out is None else Path(out),
            config,
            run=run,
            dataset=data.validation if data is not None and labelled else None,
            records=unnamed_images if data is None else lambda: data.calibration(count),
            compared=compared,
        )


@checked_arguments
def bench(
    models: Sequence[Detector | str | Path],
    *,
    config: BenchConfig | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> BenchResult:
    """Time several models in one run, interleaved, on the same images.

    Args:
        models: Detectors, or the files of any models; the first is what the speed-up is over.
        config: Sizes, counts, mode; None takes the defaults.
        device: Where torch and ONNX Runtime run.
        progress: Told of every round.

    Raises:
        ConfigError: A model is named twice, or two differ in image size or batch.
        ModelError: A file cannot be loaded.
    """
    named = [model if isinstance(model, Detector) else Path(model) for model in models]
    with _scratch(device, progress) as run:
        return replace(bench_models(named, config or BenchConfig(), run=run), drawn_by=plots.latency_plot)


@dataclass(frozen=True, eq=False, repr=False)
class QuantizeResult(Result):
    """What the whole way gave.

    Attributes:
        folder: Holds the checkpoint, the ONNX file and the engine.
        failed: Why the best engine is not within the limit; None where it is, or where the images do not tell.
    """

    folder: Path
    failed: str | None


@checked_arguments
def quantize(
    model: str | Path,
    data: Dataset | str | Path,
    *,
    out: str | Path = "runs/quantize",
    max_drop: float | None = None,
    max_noise: float | None = None,
    config: QuantizeConfig | None = None,
    scoring: EvalConfig | None = None,
    outputs: Sequence[str] = (),
    workers: int = 1,
    ray: str | None = None,
    device: str = "auto",
    progress: Progress = silent,
) -> QuantizeResult:
    """Take a ``.pt`` to the fastest INT8 engine within an allowed loss: calibrate, refine, find the noise, fine-tune, build.

    Args:
        model: The float model's file; a float ``.onnx`` is neither refined nor fine-tuned.
        data: A data set, or its YAML. Images without labels do with ``max_noise``.
        out: The directory that takes the files; an interrupted run goes on there.
        max_drop: The largest loss of mAP50-95; with labels 0.005 where neither limit is named.
        max_noise: The largest noise d, instead.
        config: Everything else, and the limit where none is named here; None takes the defaults.
        scoring: Image size, batch and NMS; None takes the defaults at the model's own image size.
        outputs: Of an ONNX file, tensors or nodes at which the heads end; found where none are named.
        workers: Local processes that share the evaluations, or workers of the Ray cluster.
        ray: Address of a Ray cluster, ``"local"`` for a new one on this machine.
        device: Where torch runs.
        progress: Told of every finished step, and of every decision.

    Returns:
        The results of ``yoloqat quantize``.

    Raises:
        ConfigError: No limit fits the data, or a setting does not fit the model.
        YoloqatError: As each stage.
    """
    data = data if isinstance(data, Dataset) else Dataset.from_yaml(data)
    if config is None or max_drop is not None or max_noise is not None:
        if max_noise is None and max_drop is None and data.labelled:
            max_drop = MAX_DROP
        config = (
            QuantizeConfig(max_drop=max_drop, max_noise=max_noise)
            if config is None
            else replace(config, max_drop=max_drop, max_noise=max_noise)
        )
    source, held_out = data.calibration_source, not data.labelled and data.images == data.calibration_source
    dataset = data.validation if data.labelled else None
    opened = open_float_model(
        Path(model),
        Path(out),
        imgsz=None if scoring is None else scoring.imgsz,
        names=None if dataset is None else dataset.names,
        target=config.quant.target,
        outputs=outputs,
    )
    with (
        torch_threads(None) as threads,
        Run(Path(out), torch_device(device), threads, progress).pooled(workers, ray) as run,
    ):
        found = _quantize(
            opened,
            data.calibration(config.calibration.images, seed=config.calibration.seed),
            config,
            scoring=scoring or EvalConfig(imgsz=opened.imgsz),
            run=run,
            dataset=dataset,
            compared=data.comparison(),
            training=(lambda: training_images(source, held_out=held_out)) if config.finetune else None,
        )
    run.forget_parts()
    return QuantizeResult(
        found.results, tables.quantize_tables(Path(model).name, found.results), Path(out), found.failed
    )
