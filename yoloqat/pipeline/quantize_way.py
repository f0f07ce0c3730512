"""The stages of `quantize` in their order, with what is decided at each and why."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from yoloqat.config import MethodSpec, Recipe, to_dict
from yoloqat.config.recipe import NAME
from yoloqat.config.sizes import sides
from yoloqat.config.target import DEFAULT_ENGINE
from yoloqat.datasets import ImageRecord, spread
from yoloqat.engines import bench, build_openvino, open_engine
from yoloqat.evaluation.drop_verdict import EXCEEDED, MET, Verdict
from yoloqat.evaluation.expected_drop import expected_drop
from yoloqat.evaluation.fidelity import mean
from yoloqat.finetuning import SupervisionConfig
from yoloqat.pipeline.candidates import Candidate, Judge, make_candidate
from yoloqat.pipeline.engine import OPENVINO
from yoloqat.pipeline.float_model import ONNX, Settings
from yoloqat.pipeline.quantize_config import QuantizeConfig, Quantized
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.search import largest_noise, open_searched, run_search
from yoloqat.pipeline.search_engines import TABLE
from yoloqat.pipeline.stages import Stages
from yoloqat.pipeline.tuning import Tuning
from yoloqat.progress import tell
from yoloqat.provenance import atomic_directory, atomic_path
from yoloqat.results import counted, number
from yoloqat.searching.profile_table import PROFILED
from yoloqat.searching.profiles import Profiles
from yoloqat.searching.settings import SearchConfig

ALL_INT8, FLOAT = "all in INT8", "float"
BENCH_ROUNDS = 100
TRAINING_IMAGES = 512
"""Images that fine-tuning takes at most, evenly spread over those that are given."""

LEAST_INT8 = 0.5
"""Share of the multiply-adds below which an engine is no INT8 engine, whatever its noise."""

TRIES = 3
"""Float sets that are made and judged at most."""


class Way:
    """The stages in their order, with what was decided."""

    def __init__(
        self,
        settings: Settings,
        config: QuantizeConfig,
        stages: Stages,
        judge: Judge,
        run: Run,
        training: Callable[[], Sequence[ImageRecord]] | None,
        profiles: Profiles | None = None,
    ) -> None:
        self._settings, self._config, self._stages, self._judge, self._run = settings, config, stages, judge, run
        self._training, self._profiles = training, profiles
        self._start = time.perf_counter()
        self.decisions: list[dict[str, Any]] = []
        self._searched_in: Path | None = None
        self.candidates: list[Candidate] = []

    def walked(self) -> Quantized:
        """Go from stage to stage until an engine is within the limit, or nothing is left to try."""
        if self._settings.engine is None:
            self._decide(
                "engine", "TensorRT is not installed: the ONNX file is measured as ONNX Runtime computes it", ""
            )
        if self._settings.model.lacks is not None:
            self._decide("refinement and fine-tuning", "left out", self._settings.model.lacks)
        self._choose_method()
        chosen = self._candidate((), ALL_INT8)
        found: dict[str, Any] | None = None
        if not self._accepted(chosen) and not self._late("search"):
            found = self._searched(chosen)
            for layers in self._float_sets(found):
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
        return self._finished(chosen, verdict, found)

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

    def _choose_method(self) -> None:
        settings, config, images = self._settings, self._config, self._judge.choosing
        methods = [MethodSpec.parse(method) for method in config.methods]

        def make(folder: Path) -> dict[str, Any]:
            return settings.model.compare(settings, methods, images, replace(self._run, out=folder))

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
        return Tuning(self._settings.model.path, spread(images, TRAINING_IMAGES), self._judge.choosing, scoring, config)

    def _candidate(self, layers: Sequence[str], name: str, tuning: Tuning | None = None) -> Candidate:
        alike = sum(known.name == name or known.name.startswith(f"{name}, set ") for known in self.candidates)
        name = f"{name}, set {alike + 1}" if alike else name
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
                told += f"; by its d {own:.3f} a drop of {number(expected)} is expected"
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

    def _searched(self, whole: Candidate) -> dict[str, Any]:
        """Search float sets on the images that choose; return the results of ``search``."""
        limit = self._config.max_noise
        if limit is None:
            limit = largest_noise(self._config.limit, self._judge.map_float)
        search, files = SearchConfig(max_noise=limit, vnni=self._config.vnni), self._config.profiles

        def make(folder: Path) -> dict[str, Any]:
            run = replace(self._run, out=folder)
            if (self._run.out / TABLE).is_file() and not (folder / TABLE).exists():  # of a run that was finished
                _copy(self._run.out / TABLE, folder / TABLE)
            model = open_searched(whole.folder / self._settings.model.files[0], run)
            return run_search(
                model, self._judge.choosing, self._settings.scoring, search=search, run=run, profiles=files
            ).results

        settings = {"scoring": to_dict(self._settings.scoring), "search": vars(search)}
        settings |= {} if files is None else {"profiles": files.digests()}
        found, self._searched_in = self._stages.once("search", make, **settings)
        quiet = found["frontier"][-1]
        self._decide(
            "search",
            f"{counted(len(found['float_layers']), 'layer')} float",
            f"d {number(found['d_choosing'], 3)} for a limit of {limit:.3f}; with {len(quiet['float_layers'])} float "
            f"{number(quiet['d_choosing'], 3)}; latency by {found['latency_source']}",
        )
        return found

    def _float_sets(self, found: dict[str, Any]) -> list[tuple[str, ...]]:
        """Return the float sets to try: the one that the search chose, and the faster ones of those with less noise."""
        chosen = next(row for row in found["frontier"] if row["float_layers"] == found["float_layers"])
        slowest = self._config.max_latency
        rows = [
            row
            for row in found["frontier"]
            if row["d_choosing"] < chosen["d_choosing"]
            and row["int8_mac_share"] >= LEAST_INT8
            and (slowest is None or _told_ms(row, found["latency_source"], 0.0) <= slowest)
        ]
        first = [chosen] if chosen["int8_mac_share"] >= LEAST_INT8 else []
        rows = [*first, *sorted(rows, key=lambda row: row["latency_predicted_ms"])[: TRIES - 1]]
        sets = [tuple(row["float_layers"]) for row in rows if row["float_layers"]]
        if not sets:
            slow = "" if slowest is None else f", and at most {slowest:g} ms"
            needs = f"less noise with at least {LEAST_INT8:.0%} of the multiply-adds in INT8{slow}"
            self._decide("float sets", "none is tried", f"no set has {needs}")
        return sets

    def _finished(self, chosen: Candidate, verdict: Verdict, search: dict[str, Any] | None) -> Quantized:
        names = [*self._settings.model.files] + ([chosen.path.name] if chosen.path.name != ONNX else [])
        for name in names:
            _copy(chosen.folder / name, self._run.out / name)
        row, timed = self._judge.row(chosen), self._timed(chosen)
        latency = timed["items"][-1]["latency_ms"]["p50"] if timed["items"] else None
        predicted = _predicted(search, chosen, self._profiles)
        results = {
            **predicted,
            **{name: value for name, value in row.items() if name != "name"},
            "map_float": self._judge.map_float,
            "latency_ms": latency,
            "verdict": verdict.to_dict(),
            "method": str(self._settings.calibration.method),
            "refine": chosen.found.get("refine", []),
            "engine": self._settings.engine,
            "chosen": chosen.name,
            "candidates": [self._judge.row(candidate) for candidate in self.candidates],
            "compare": self._compared,
            "build": chosen.found.get("build"),
            "decisions": self.decisions,
            "bench": timed,
            "seconds": time.perf_counter() - self._start,
        }
        self._recipe(chosen, results).save(self._run.out / NAME)
        failed = []
        if verdict.word == EXCEEDED:
            tried = ", ".join(candidate.name for candidate in self.candidates)
            failed.append(
                f"the best engine ({chosen.name}) exceeds the limit {verdict.limit:g}: {verdict.value:.4f}; tried: {tried}"
            )
        if chosen.found["export_failed"] is not None:
            failed.append(str(chosen.found["export_failed"]))
        if self._config.max_latency is not None and latency is not None and latency > self._config.max_latency:
            failed.append(f"the engine ({chosen.name}) takes {latency:.2f} ms of {self._config.max_latency:g} ms")
        failed += self._too_slow(chosen, predicted) if latency is None else []
        beside = [self._settings.model.path.name] if self._settings.model.path.parent == self._run.out else []
        if self._searched_in is not None:
            _copy(self._searched_in / TABLE, self._run.out / TABLE)
            beside.append(TABLE)
        return Quantized(results, (*names, *beside, NAME), chosen.path.name, "; ".join(failed) or None)

    def _too_slow(self, chosen: Candidate, predicted: dict[str, Any]) -> list[str]:
        """Return that an engine which was not timed is too slow, where profiles predict so."""
        limit, ms = self._config.max_latency, predicted["latency_predicted_ms"]
        if limit is None or self._profiles is None:
            return []
        told = f"is predicted to take {ms:.2f} ms of {limit:g} ms, by the profiles"
        self._decide("latency", f"{chosen.name} {told}", "no engine was timed here")
        return [f"the engine ({chosen.name}) {told}"] if ms > limit else []

    def _recipe(self, chosen: Candidate, results: dict[str, Any]) -> Recipe:
        """Return what makes the chosen engine again."""
        figures = ("d", "d_ci95", "latency_ms", "map50_95", "drop", "drop_ci95", "int8_mac_share")
        model = open_searched(chosen.folder / self._settings.model.files[0], self._run)
        recipe = model.recipe(
            self._settings.scoring,
            (),
            measured={figure: results.get(figure) for figure in figures},
        )
        ignored = self._settings.quant.ignore
        return replace(
            recipe,
            quantization=replace(recipe.quantization, ignore=ignored),
            float_layers=chosen.float_layers,
            predicted={
                name: results[f"{name}_predicted"] for name in ("d",) if results[f"{name}_predicted"] is not None
            },
            training=chosen.found.get("training", {}),
        )

    def _timed(self, chosen: Candidate) -> dict[str, Any]:
        """Time the float model, the whole in INT8 and the chosen engine in one run, where engines were built."""
        if self._settings.engine is None:
            return {"items": []}
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
            self._settings.model.export(folder / ONNX, self._settings.scoring.imgsz)
            if self._settings.engine != DEFAULT_ENGINE:
                return {"engine": ONNX}
            build_openvino(folder / ONNX, folder / OPENVINO, threads=self._run.threads)
            return {"engine": OPENVINO}

        found, folder = self._stages.once("float", make)
        return folder / str(found["engine"])


def _told_ms(row: dict[str, Any], source: str, unknown: float) -> float:
    """Return what a float set takes: measured, or predicted from profiles; ``unknown`` where it is only estimated."""
    if row["latency_ms"] is None:
        return float(row["latency_predicted_ms"]) if source == PROFILED else unknown
    return float(row["latency_ms"])


def _predicted(search: dict[str, Any] | None, chosen: Candidate, profiles: Profiles | None) -> dict[str, Any]:
    """Return the frontier, and what it predicted of the chosen engine; None where nothing was searched."""
    rows = [] if search is None else search["frontier"]
    own: dict[str, Any] = next((row for row in rows if tuple(row["float_layers"]) == chosen.float_layers), {})
    predictions = ("d_predicted", "latency_predicted_ms")
    keys = ("frontier", "frontier_predicted", "latency_source", "latency_measured", "tied_layers")
    found = {name: own.get(name) for name in predictions} | {
        key: None if search is None else search[key] for key in keys
    }
    if profiles is not None and not chosen.float_layers:
        found |= {"latency_predicted_ms": profiles.latency_ms, "latency_source": PROFILED, "latency_measured": False}
    return found


def _copy(source: Path, path: Path) -> None:
    """Copy a file or a directory, whole or not at all."""
    if source.is_dir():
        with atomic_directory(path) as temporary:
            shutil.copytree(source, temporary, dirs_exist_ok=True)
    else:
        with atomic_path(path) as temporary:
            shutil.copyfile(source, temporary)
