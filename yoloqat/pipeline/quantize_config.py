"""What `quantize` is asked for, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from yoloqat.config import CalibrationConfig, MethodSpec, QuantConfig
from yoloqat.config.checks import check_bool, check_int
from yoloqat.config.method import DEFAULT_METHODS, PER_LAYER
from yoloqat.config.target import check_vnni
from yoloqat.errors import ConfigError
from yoloqat.pipeline.refine_steps import QUICK, steps_of
from yoloqat.searching.profiles import ProfileFiles

METHODS = tuple(str(method) for method in DEFAULT_METHODS if method.kind != PER_LAYER)
MAX_DROP = 0.005
"""What a caller takes where neither limit is named and there are labels."""


@dataclass(frozen=True)
class QuantizeConfig:
    """What is wanted, and what may be done for it.

    Attributes:
        max_drop: The largest loss of mAP50-95; needs labels.
        max_noise: The largest noise d of the engine; needs none.
        max_latency: Milliseconds of one image that the engine may take; None for no limit.
        time_limit: Minutes after which no further stage begins; None for no limit.
        quant: What is quantized, and for which target.
        calibration: Calibration images; the method is chosen.
        methods: What the method is chosen among.
        refine: Steps of refinement in their order; ``"none"`` for none, ``"all"`` for all.
        epochs: Of the fine-tuning that follows where nothing else is enough.
        finetune: Whether it may follow.
        vnni: The engine will run on processors with VNNI alone, as in ``BuildConfig``.
        int8_profile: What trtexec wrote of the model's engine with every layer in INT8, for the latency of float sets; needs
        float_profile: the same of its float engine.

    Raises:
        ConfigError: Neither a drop nor a noise is named, or both, a value is out of range, a method or step is unknown, or
            one of the two profiles is missing, or ``vnni`` does not fit the target.
    """

    max_drop: float | None = None
    max_noise: float | None = None
    max_latency: float | None = None
    time_limit: float | None = None
    quant: QuantConfig = field(default_factory=QuantConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    methods: tuple[str, ...] = METHODS
    refine: tuple[str, ...] = QUICK
    epochs: int = 5
    finetune: bool = True
    vnni: bool = False
    int8_profile: tuple[str, ...] = ()
    float_profile: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        check_int("epochs", self.epochs, 1)
        check_bool("vnni", self.vnni)
        check_vnni(self.vnni, self.quant.target)
        object.__setattr__(self, "refine", steps_of(self.refine))
        for method in self.methods:
            MethodSpec.parse(method)
        found = self.profiles
        if found is not None:
            object.__setattr__(self, "int8_profile", tuple(map(str, found.int8)))
            object.__setattr__(self, "float_profile", tuple(map(str, found.floating)))
        if (self.max_drop is None) == (self.max_noise is None):
            raise ConfigError(
                f"max_drop is {self.max_drop} and max_noise is {self.max_noise}",
                expected="one of them",
                hint="name `max_drop` where the images have labels, else `max_noise`",
            )
        for name, value in (
            ("max_drop", self.max_drop),
            ("max_noise", self.max_noise),
            ("max_latency", self.max_latency),
            ("time_limit", self.time_limit),
        ):
            if value is not None and not 0.0 < value < float("inf"):
                raise ConfigError(f"{name} is {value}", expected="a number above 0", hint=f"name another `{name}`")

    @property
    def profiles(self) -> ProfileFiles | None:
        """The profiles; None where there are none."""
        return ProfileFiles.of(self.int8_profile, self.float_profile)

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
        engine: That of the engine; the ONNX file where none was built.
        failed: Why the best engine is not within the limit; None where it is, or where the images do not tell.
    """

    results: dict[str, Any]
    files: tuple[str, ...]
    engine: str
    failed: str | None
