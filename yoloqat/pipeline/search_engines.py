"""The engines of float sets: built once each, timed in turn, and the latency table that follows from some of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from yoloqat.config import EvalConfig
from yoloqat.config.sizes import ImageSize, sides
from yoloqat.config.target import DEFAULT_ENGINE, OPENVINO, TENSORRT, check_vnni
from yoloqat.engines import OpenVINOPredictor, build_openvino
from yoloqat.engines.openvino import guard
from yoloqat.engines.openvino_profile import profile_models
from yoloqat.errors import ConfigError
from yoloqat.evaluation.reference import Fidelity, Reference
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.search_model import SearchedModel, SizedModel
from yoloqat.pipeline.shards import ModelFile, SharedReference
from yoloqat.predictor import Images, Predictor
from yoloqat.provenance import digest, environment, scratch_directory, write_json
from yoloqat.searching.latency import LatencyTable, borders_of, estimated_table, halves, measured_table
from yoloqat.searching.problem import crossed
from yoloqat.searching.profile_table import profile_table
from yoloqat.searching.profiles import ProfileFiles, Profiles
from yoloqat.searching.tied import Flow, flows, tied_layers

TABLE = "latency.json"
"""The latency table, measured once."""


class Engines:
    """The engines of a calibrated model with some of its layers float.

    Args:
        model: Calibrated; not changed.
        config: Image size; engines take one image.
        run: Where engines and figures are kept, threads, who watches.
        rounds: Timed forwards of each engine.
        vnni: They are for processors with VNNI alone, without a guard against saturating sums.
        profiles: What trtexec wrote of two engines of the model, from which latencies are predicted.

    Attributes:
        engine: The runtime, by the model's target.
        measurable: Whether it runs here, so that its latency can be measured; otherwise QFloat stands for its noise.
        profiles: What the files tell.
        groups: Layers that are float together.

    Raises:
        ConfigError: There are profiles and the model's target is not TensorRT, or they are of OpenVINO; or ``vnni`` does not
            fit the engine.
        EngineError: The profiles do not fit.
        ModelError: They cannot be read.
    """

    def __init__(
        self,
        model: SearchedModel,
        config: EvalConfig,
        *,
        run: Run,
        rounds: int,
        vnni: bool = False,
        profiles: ProfileFiles | None = None,
    ) -> None:
        self.model, self.run, self.rounds, self._vnni = model, run, rounds, vnni
        self.config = replace(config, batch=1, rect=False)
        self.engine = model.target or DEFAULT_ENGINE
        check_vnni(vnni, self.engine)
        self.measurable = self.engine == OPENVINO.name
        self.profiles = read_profiles(profiles, self.engine, model.nodes(), config.imgsz)
        self.layers = model.layers
        self.groups = tied_layers(model.placement, model.layers)

    @cached_property
    def sized(self) -> SizedModel:
        """The graph at the shape of one image."""
        return self.model.sized(self.config.imgsz)

    @cached_property
    def passing(self) -> list[Flow]:
        """Tensors between layers."""
        return flows(self.sized.steps, self.layers)

    def key(self, layers: Collection[str]) -> dict[str, Any]:
        """Return what identifies the numbers of the engine in which some layers are float."""
        made_of = [self.model.state, self.engine, list(sides(self.config.imgsz)), sorted(layers)]
        if self._vnni:
            made_of.append("vnni")
        return {"float_set": digest(made_of)}

    def build(self, layers: Sequence[str]) -> Path:
        """Return the engine in which some layers are float, built where it is not there yet.

        Raises:
            EngineError: The runtime cannot build it.
            OutputError: It cannot be written.
        """
        path = self.run.part_path(self.run.key(**self.key(layers)), "model_openvino")
        if not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            with scratch_directory(path.parent) as folder:
                onnx = folder / "model.onnx"
                self.model.export(layers, onnx, self.config.imgsz)
                build_openvino(onnx, path, threads=self.run.threads, **guard(vnni=self._vnni))
        return path

    def predictor(self, layers: Sequence[str]) -> Predictor:
        """Return what runs the model with some layers float: its engine where it can be built here, else QFloat."""
        if self.measurable:
            return OpenVINOPredictor(self.build(layers), threads=self.run.threads)
        return self.model.predictor(layers)

    @cached_property
    def float_predictor(self) -> Predictor:
        """The float model."""
        return self.model.predictor(self.layers)

    def file(self, layers: Sequence[str]) -> ModelFile:
        """Return the file of :meth:`predictor`'s model, as a worker opens it."""
        if self.measurable:
            return ModelFile(self.build(layers).absolute(), self.run.threads)
        return self.model.file(layers)

    @property
    def float_file(self) -> ModelFile:
        """The file of the float model."""
        return self.model.file(self.layers)

    def fidelity(self, layers: Sequence[str], reference: Reference | SharedReference, label: str) -> Fidelity:
        """Measure the noise of the model with some layers float, or read what an interrupted run found."""
        return self.run.fidelity(
            reference, self.predictor(layers), label=label, model_key=self.key(layers), file=self.file(layers)
        )

    def latencies(self, sets: Sequence[Sequence[str]]) -> list[float]:
        """Return milliseconds of the engines of some float sets, timed in turn beside the one of INT8 alone.

        A machine is faster on one day than on another, so that each is told in proportion to INT8 alone, whose latency is that of
        the table. What was timed before is read.
        """
        if not self.measurable:
            raise TypeError("its engine does not run here")
        base = self.table().latency_ms
        paths = [self.run.part_path(self.run.key(latency=self.key(layers)), "latency.json") for layers in sets]
        missing = [(path, layers) for path, layers in zip(paths, sets, strict=True) if _read(path) is None]
        if missing:
            models = {"int8": self.build(())} | {str(index): self.build(own) for index, (_, own) in enumerate(missing)}
            found = profile_models(
                models, self._images, threads=self.run.threads, rounds=self.rounds, progress=self.run.progress
            )
            for index, (path, _) in enumerate(missing):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, {"ratio": found[str(index)].latency_ms / found["int8"].latency_ms})
        return [base * float((_read(path) or {})["ratio"]) for path in paths]

    @property
    def _images(self) -> Images:
        height, width = sides(self.config.imgsz)
        images: Images = np.random.default_rng(0).random((1, self.model.info.channels, height, width), dtype=np.float32)
        return images

    def table(self) -> LatencyTable:
        """Return the latency table: kept from before, read from profiles, measured on this machine, or estimated.

        Raises:
            EngineError: A model cannot be built or run.
            OutputError: The table cannot be written.
        """
        known = environment(device="cpu", threads=self.run.threads)
        made_of = (
            {name: known[name] for name in ("threads", "processor", "packages")}
            | {"engine": self.engine}
            | ({} if self.profiles is None else {"profiles": self.profiles.files.digests()})
            | self.key(())
        )
        found = LatencyTable.from_dict(_read(self.run.out / TABLE), made_of)
        if found is None:
            if self.profiles is not None:
                found = profile_table(self.profiles, self.layers, self.model.nodes(), self._costs, made_of)
            else:
                found = self._measured(made_of) if self.measurable else self._estimated(made_of)
            write_json(self.run.out / TABLE, found.to_dict())
        return found

    @property
    def _costs(self) -> dict[str, tuple[int, int]]:
        """Of each layer and product, its multiply-adds and the numbers that it reads and writes."""
        costs: dict[str, tuple[int, int]] = {}
        for cost in self.sized.costs:
            macs, moved = costs.get(cost.name, (0, 0))
            moved += prod(cost.input) + prod(cost.output) + cost.parameters
            costs[cost.name] = macs + cost.macs, moved
        return costs

    def _estimated(self, made_of: Mapping[str, Any]) -> LatencyTable:
        costs = self._costs
        rest = [costs.pop(name) for name in list(costs) if name not in self.layers]
        return estimated_table(costs, (sum(macs for macs, _ in rest), sum(moved for _, moved in rest)), made_of)

    def _measured(self, made_of: Mapping[str, Any]) -> LatencyTable:
        halved = dict(zip(("one half", "other half"), halves(self.groups, self.passing), strict=True))
        sets = {"int8": [], "float": list(self.layers)}
        sets |= {name: [layer for index in chosen for layer in self.groups[index]] for name, chosen in halved.items()}
        models = {}
        for number, (name, layers) in enumerate(sets.items()):
            self.run.progress("build models to time", number, len(sets))
            models[name] = self.build(layers)
        found = profile_models(
            models, self._images, threads=self.run.threads, rounds=self.rounds, progress=self.run.progress
        )
        borders = borders_of(self.groups, self.passing, 1.0)
        return measured_table(
            self.engine,
            {name: found[name].by_layer(self.model.nodes()) for name in ("int8", "float")},
            {name: profile.latency_ms for name, profile in found.items()},
            {name: (sets[name], crossed(borders, chosen) - crossed(borders, ())) for name, chosen in halved.items()},
            made_of,
        )


def read_profiles(
    files: ProfileFiles | None, engine: str, nodes: Mapping[str, str], imgsz: ImageSize
) -> Profiles | None:
    """Return what profiles tell of the engines of a model.

    Args:
        files: As named; None for none.
        engine: The runtime that the model is for.
        nodes: Names of nodes in the file, to the quantized layer that each is.
        imgsz: Image size in pixels.

    Raises:
        ConfigError: The runtime is not TensorRT, or the profiles are of another.
        EngineError: The profiles tell no layers or no times, are of another model, or of one and the same engine.
        ModelError: They cannot be read.
    """
    if files is None:
        return None
    if engine != TENSORRT.name:
        raise ConfigError(
            f"int8_profile is '{files.int8[0]}' and the engine is '{engine}'",
            expected="a model calibrated for TensorRT, whose engines trtexec profiles",
            hint="calibrate with `target=tensorrt`, or leave `int8_profile` and `float_profile` out",
        )
    found = Profiles.read(files)
    found.check(nodes, sides(imgsz))
    return found


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a JSON file holds; None where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
