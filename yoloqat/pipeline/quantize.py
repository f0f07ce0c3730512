"""The whole way from a float detector to the fastest INT8 engine within a loss that was allowed, with every decision's reason."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from yoloqat.config import CalibrationConfig, EvalConfig, ExportConfig, MethodSpec, QuantConfig, to_dict
from yoloqat.config.method import DEFAULT_METHODS, PER_LAYER
from yoloqat.config.sizes import sides
from yoloqat.config.target import DEFAULT_ENGINE, TENSORRT
from yoloqat.datasets import DetectionDataset, ImageRecord, spread
from yoloqat.detectors import load_detector
from yoloqat.engines import bench, build_openvino, open_engine
from yoloqat.engines.tensorrt import load_tensorrt
from yoloqat.errors import ConfigError, DependencyError
from yoloqat.evaluation.drop_verdict import EXCEEDED, MET, Verdict
from yoloqat.evaluation.expected_drop import expected_drop
from yoloqat.evaluation.fidelity import mean
from yoloqat.finetuning import SupervisionConfig
from yoloqat.pipeline.candidates import CHECKPOINT, ONNX, Candidate, Judge, Settings, make_candidate
from yoloqat.pipeline.compare import compare_methods
from yoloqat.pipeline.engine import OPENVINO
from yoloqat.pipeline.export import export_onnx
from yoloqat.pipeline.noise_mode import run_noise_budget
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run, dataset_key, records_key
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.pipeline.stages import Stages
from yoloqat.pipeline.tuning import Tuning
from yoloqat.progress import tell
from yoloqat.provenance import atomic_directory, atomic_path
from yoloqat.results import counted, number
from yoloqat.sensitivity.settings import NOISE, ScanConfig

METHODS = tuple(str(method) for method in DEFAULT_METHODS if method.kind != PER_LAYER)
ALL_INT8, FLOAT = "all in INT8", "float"
BENCH_ROUNDS = 100
MAX_DROP = 0.005
"""What a caller takes where neither limit is named and there are labels."""

TRAINING_IMAGES = 512
"""Images that fine-tuning takes at most, evenly spread over those that are given."""

ORT_IMAGES = 32
"""Calibration images on which ONNX Runtime's ranges are measured."""


@dataclass(frozen=True)
class QuantizeConfig:
    """What is wanted, and what may be done for it.

    Attributes:
        max_drop: The largest loss of mAP50-95; needs labels.
        max_noise: The largest noise d of the engine; needs none.
        time_limit: Minutes after which no further stage begins; None for no limit.
        quant: What is quantized, and for which target.
        calibration: Calibration images; the method is chosen.
        methods: What the method is chosen among.
        refine: Steps of refinement, none for none.
        epochs: Of the fine-tuning that follows where nothing else is enough.

    Raises:
        ConfigError: Neither a drop nor a noise is named, or both, or a value is out of range.
    """

    max_drop: float | None = None
    max_noise: float | None = None
    time_limit: float | None = None
    quant: QuantConfig = field(default_factory=QuantConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    methods: tuple[str, ...] = METHODS
    refine: tuple[str, ...] = ()
    epochs: int = 5

    def __post_init__(self) -> None:
        """Check the values."""
        if (self.max_drop is None) == (self.max_noise is None):
            raise ConfigError(
                f"max_drop is {self.max_drop} and max_noise is {self.max_noise}",
                expected="one of them",
                hint="name `max_drop` where the images have labels, else `max_noise`",
            )
        for name, value in (
            ("max_drop", self.max_drop),
            ("max_noise", self.max_noise),
            ("time_limit", self.time_limit),
        ):
            if value is not None and not 0.0 < value < float("inf"):
                raise ConfigError(f"{name} is {value}", expected="a number above 0", hint=f"name another `{name}`")

    @property
    def limit(self) -> float:
        """What the loss is held against."""
        return float(self.max_drop or self.max_noise or 0.0)


@dataclass(frozen=True, eq=False)
class Quantized:
    """What the whole way gave.

    Attributes:
        results: The keys of the result of ``quantize``.
        files: The files and directories written, relative to the directory of results.
        failed: Why the best engine is not within the limit; None where it is, or where the images do not tell.
    """

    results: dict[str, Any]
    files: tuple[str, ...]
    failed: str | None


def quantize(
    model: Path,
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
        model: The float model.
        records: Calibration images.
        config: What is wanted.
        scoring: Image size, batch and NMS.
        run: Where the files go, device, threads, who watches.
        dataset: The validation images; None where the noise is what is limited.
        compared: Images to measure the noise on; none of those that calibrate.
        training: Gives images to fine-tune on, which need no labels; None never fine-tunes.

    Raises:
        ConfigError: A drop is limited and there are no labels; or a setting does not fit the model.
        YoloqatError: As each stage.
    """
    if config.max_drop is not None and dataset is None:
        raise ConfigError(
            f"max_drop is {config.max_drop} and the images have no labels",
            expected="labels to measure mAP on",
            hint="name `max_noise` instead, or a labelled data set",
        )
    engine = _engine(config.quant.target)
    settings = Settings(
        model=model,
        records=records,
        quant=config.quant,
        calibration=config.calibration,
        scoring=scoring,
        refine=config.refine,
        engine=engine,
        images=lambda: records[:ORT_IMAGES],
    )
    key = {
        "weights": load_detector(model).source.sha256,
        "calibration": records_key(records),
        "compared": records_key(compared),
        "data": None if dataset is None else dataset_key(dataset),
        "limit": [config.max_drop, config.max_noise],
    }
    way = _Way(settings, config, Stages(run, key), Judge(run, settings, dataset, compared), run, training)
    return way.walked(compared)


def _engine(target: str | None) -> str | None:
    """Return the runtime to build for; None where TensorRT is wanted and is not installed."""
    engine = target or DEFAULT_ENGINE
    if engine == TENSORRT.name:
        try:
            load_tensorrt()
        except DependencyError:
            return None
    return engine


class _Way:
    """The stages in their order, with what was decided."""

    def __init__(
        self,
        settings: Settings,
        config: QuantizeConfig,
        stages: Stages,
        judge: Judge,
        run: Run,
        training: Callable[[], Sequence[ImageRecord]] | None,
    ) -> None:
        self._settings, self._config, self._stages, self._judge, self._run = settings, config, stages, judge, run
        self._training = training
        self._start = time.perf_counter()
        self.decisions: list[dict[str, Any]] = []
        self.candidates: list[Candidate] = []

    def walked(self, compared: Sequence[ImageRecord]) -> Quantized:
        """Go from stage to stage until an engine is within the limit, or nothing is left to try."""
        if self._settings.engine is None:
            self._decide(
                "engine", "TensorRT is not installed: the ONNX file is measured as ONNX Runtime computes it", ""
            )
        self._choose_method(compared)
        chosen = self._candidate((), ALL_INT8)
        budget: dict[str, Any] | None = None
        accepted = self._accepted(chosen)
        if not accepted and not self._late("noise budget"):
            budget = self._budget(chosen, compared)
            for layers in self._float_sets(budget):
                candidate = self._candidate(layers, f"{counted(len(layers), 'layer')} float")
                accepted = self._accepted(candidate)
                if accepted or candidate.d < chosen.d:
                    chosen = candidate
                if accepted or self._late("more float layers"):
                    break
        verdict = self._confirmed(chosen)
        if verdict.word == EXCEEDED and self._training is not None and not self._late("fine-tuning"):
            tuned = self._candidate(
                chosen.float_layers, f"{chosen.name}, fine-tuned", tuning=self._tuning(self._training())
            )
            after = self._confirmed(tuned)
            if tuned.d < chosen.d:
                chosen, verdict = tuned, after
        return self._finished(chosen, verdict, budget)

    def _decide(self, step: str, decision: str, reason: str) -> None:
        seconds = time.perf_counter() - self._start
        self.decisions.append({"step": step, "decision": decision, "reason": reason, "seconds": seconds})
        tell(self._run.progress, f"{step}: {decision}{f' ({reason})' if reason else ''}")

    def _late(self, stage: str) -> bool:
        limit, minutes = self._config.time_limit, (time.perf_counter() - self._start) / 60.0
        late = limit is not None and minutes >= limit
        if late:
            self._decide(stage, "left out", f"{minutes:.1f} of {limit:g} minutes are spent")
        return late

    def _choose_method(self, compared: Sequence[ImageRecord]) -> None:
        settings, config = self._settings, self._config
        methods = [MethodSpec.parse(method) for method in config.methods]

        def make(folder: Path) -> dict[str, Any]:
            ptq = Ptq(
                load_detector(settings.model),
                settings.records,
                quant=settings.quant,
                calibration=settings.calibration,
                imgsz=settings.scoring.imgsz,
                batch=settings.scoring.batch,
                run=self._run,
            )
            return compare_methods(
                ptq, None, methods, settings.scoring, run=replace(self._run, out=folder), images=compared
            )

        found, _ = self._stages.once(
            "compare",
            make,
            methods=list(config.methods),
            quant=to_dict(settings.quant),
            calibration=to_dict(settings.calibration),
            scoring=to_dict(settings.scoring),
        )
        method = MethodSpec.parse(found["recommended"])
        self._settings = replace(settings, calibration=replace(settings.calibration, method=method))
        noises = {str(MethodSpec(row["method"], **row["params"])): row["d"] for row in found["methods"]}
        others = [f"{name} {value:.3f}" for name, value in noises.items() if name != str(method)]
        reason = f"d {noises[str(method)]:.3f}" + (f"; {', '.join(others)}" if others else "")
        self._decide("calibration method", str(method), reason)
        self._compared = found

    def _tuning(self, images: Sequence[ImageRecord]) -> Tuning:
        scoring, epochs = self._settings.scoring, self._config.epochs
        config = SupervisionConfig(
            epochs=epochs, batch=scoring.batch, imgsz=scoring.imgsz, seed=self._config.calibration.seed
        )
        return Tuning(self._settings.model, spread(images, TRAINING_IMAGES), self._judge.choosing, scoring, config)

    def _candidate(self, layers: Sequence[str], name: str, tuning: Tuning | None = None) -> Candidate:
        candidate = make_candidate(
            self._stages,
            self._judge,
            self._settings,
            layers,
            name=name,
            run=self._run,
            tuning=tuning,
        )
        self.candidates.append(candidate)
        for step in candidate.found.get("refine", ())[1:]:
            kept = "kept" if step["accepted"] else "undone, because it harms on held-out images"
            self._decide("refinement", f"{step['step']} {kept}", f"d {step['d']:.3f} on calibration images")
        return candidate

    def _loss(self, candidate: Candidate, half: int) -> Verdict:
        mask = self._judge.halves[half]
        measure = self._judge.quiet if self._config.max_drop is None else self._judge.drop
        return measure(candidate, self._config.limit, mask)

    def _accepted(self, candidate: Candidate) -> bool:
        """Return whether a candidate is good enough to stop at, by the half of the images that chooses."""
        found = self._loss(candidate, 0)
        what = "d" if self._config.max_drop is None else "drop"
        told = f"{what} {found.value:.4f} [{found.low:.4f}, {found.high:.4f}] on {counted(found.images, 'image')}"
        word = found.word
        accepted = word == MET
        if word not in (MET, EXCEEDED):
            if self._config.max_drop is None:
                accepted = found.value <= found.limit
            else:
                own = mean(self._judge.noise(candidate, self._judge.halves[0])).value
                expected = expected_drop(own, self._judge.map_float)["expected_drop"]
                accepted = expected is not None and expected <= found.limit
                told += f"; by its d {own:.3f} {number(expected)} is expected"
        self._decide(candidate.name, "is taken" if accepted else "is not enough", f"{word}: {told}")
        return accepted

    def _confirmed(self, candidate: Candidate) -> Verdict:
        """Return the verdict on a candidate by the half of the images that took no part in the choice."""
        found = self._loss(candidate, 1)
        what = "d" if self._config.max_drop is None else "drop"
        told = f"{what} {found.value:.4f} [{found.low:.4f}, {found.high:.4f}] on {counted(found.images, 'other image')}"
        if found.images_to_decide is not None:
            told += f"; about {found.images_to_decide} would tell"
        self._decide("verdict", f"{candidate.name}: {found.word}", told)
        return found

    def _budget(self, whole: Candidate, compared: Sequence[ImageRecord]) -> dict[str, Any]:
        options = ScanOptions(max_drop=self._config.max_drop)

        def make(folder: Path) -> dict[str, Any]:
            return run_noise_budget(
                whole.folder / CHECKPOINT,
                compared,
                self._settings.scoring,
                scan=ScanConfig(mode=NOISE),
                options=options,
                run=replace(self._run, out=folder),
            )

        found, _ = self._stages.once("budget", make, scoring=to_dict(self._settings.scoring), options=vars(options))
        first = [f"{item['name']} {100 * item['share']:.0f} %" for item in found["items"][:3] if item["share"]]
        self._decide("noise budget", f"d {found['d']:.3f}", f"most from {', '.join(first)}")
        return found

    def _float_sets(self, budget: dict[str, Any]) -> list[tuple[str, ...]]:
        return [tuple(budget["ignore"])] if budget["ignore"] else []

    def _finished(self, chosen: Candidate, verdict: Verdict, budget: dict[str, Any] | None) -> Quantized:
        names = [CHECKPOINT, ONNX] + ([chosen.path.name] if chosen.path.name != ONNX else [])
        for name in names:
            _copy(chosen.folder / name, self._run.out / name)
        row, timed = self._judge.row(chosen), self._timed(chosen)
        results = {
            **{name: value for name, value in row.items() if name != "name"},
            "map_float": self._judge.map_float,
            "latency_ms": timed["items"][-1]["latency_ms"]["p50"],
            "verdict": verdict.to_dict(),
            "method": str(self._settings.calibration.method),
            "refine": chosen.found.get("refine", []),
            "engine": self._settings.engine,
            "chosen": chosen.name,
            "candidates": [self._judge.row(candidate) for candidate in self.candidates],
            "compare": self._compared,
            "build": chosen.found.get("build"),
            "decisions": self.decisions,
            "budget": budget,
            "bench": timed,
            "seconds": time.perf_counter() - self._start,
        }
        failed = None
        if verdict.word == EXCEEDED:
            tried = ", ".join(candidate.name for candidate in self.candidates)
            failed = f"the best engine ({chosen.name}) exceeds the limit {verdict.limit:g}: {verdict.value:.4f}; tried: {tried}"
        return Quantized(results, tuple(names), failed)

    def _timed(self, chosen: Candidate) -> dict[str, Any]:
        """Time the float model, the whole in INT8 and the chosen engine in one run, where engines were built."""
        folder = self._float_engine()
        paths = {FLOAT: folder, ALL_INT8: self.candidates[0].path, chosen.name: chosen.path}
        engines = {
            name: open_engine(path, threads=self._run.threads, device=str(self._run.device))
            for name, path in paths.items()
        }
        info = next(iter(engines.values())).info
        shape = (1, info.channels, *sides(self._settings.scoring.imgsz))
        images = np.random.default_rng(0).random(shape, dtype=np.float32)
        items = bench(engines, images, rounds=BENCH_ROUNDS, progress=self._run.labelled("bench"))
        return {"items": [vars(item) for item in items]}

    def _float_engine(self) -> Path:
        """Return the float model as the engine that the others are compared with."""

        def make(folder: Path) -> dict[str, Any]:
            export_onnx(
                load_detector(self._settings.model), folder / ONNX, ExportConfig(imgsz=self._settings.scoring.imgsz)
            )
            if self._settings.engine != DEFAULT_ENGINE:
                return {"engine": ONNX}
            build_openvino(folder / ONNX, folder / OPENVINO, threads=self._run.threads)
            return {"engine": OPENVINO}

        found, folder = self._stages.once("float", make)
        return folder / str(found["engine"])


def _copy(source: Path, path: Path) -> None:
    """Copy a file or a directory, whole or not at all."""
    if source.is_dir():
        with atomic_directory(path) as temporary:
            shutil.copytree(source, temporary, dirs_exist_ok=True)
    else:
        with atomic_path(path) as temporary:
            shutil.copyfile(source, temporary)
