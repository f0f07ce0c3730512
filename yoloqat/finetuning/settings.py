"""How a quantized detector is fine-tuned."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from yoloqat.config.checks import check_bool, check_int, check_seed
from yoloqat.config.sizes import GREATEST, LEAST, ImageSize, check_pixels, checked_imgsz
from yoloqat.errors import ConfigError


def check_number(name: str, value: object, *, positive: bool = False) -> None:
    """Check that ``value`` is a finite number of at least 0, or above 0 with ``positive``.

    Raises:
        ConfigError: It is not.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < 0 or (positive and value == 0):  # type: ignore[operator]
        wanted = "a number above 0" if positive else "a number of at least 0"
        raise ConfigError(f"{name} is {value!r}", expected=wanted, hint=f"set {name} to one")


@dataclass(frozen=True)
class LossWeights:
    """Weights of the parts of the loss.

    Attributes:
        task: The detector's own loss on labelled images.
        outputs: Distance of box distributions and class scores from those of the float model.
        features: Distance of the feature levels that enter the head from those of the float model.

    Raises:
        ConfigError: A weight is negative, or all are 0.
    """

    task: float = 1.0
    outputs: float = 10.0
    features: float = 5.0

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("task", "outputs", "features"):
            check_number(f"the weight of {name}", getattr(self, name))
        if not (self.task or self.outputs or self.features):
            raise ConfigError(
                f"the loss weights are {self.task}, {self.outputs} and {self.features}",
                expected="one of them above 0",
                hint="set the weight of what is to be learned",
            )

    @property
    def distils(self) -> bool:
        """True when the float model is needed."""
        return bool(self.outputs or self.features)


@dataclass(frozen=True)
class FinetuneConfig:
    """How a quantized detector is fine-tuned on its family's own trainer.

    Attributes:
        epochs: Passes over the training images.
        batch: Images per step, of all processes together.
        imgsz: Side of the training images in pixels.
        lr0: Learning rate at the start; it falls along a cosine to a hundredth.
        optimizer: A name that Ultralytics knows.
        patience: Epochs without a better one after which training stops; 0 never stops early. Better is a higher mAP, or where
            mAP ties, or there are no labels, a lower noise d.
        seed: Seeds the order of the images and their augmentation.
        learn_amax: Learn every amax beside the weights (LSQ, Esser et al. 2020, arXiv:1902.08153) instead of keeping it.
        keep_bn: Keep batch-norms through the training, with frozen statistics, instead of training the folded weights.
        processes: How many train together, each on its share of every batch.
        weights: What each part of the loss counts.
        arguments: Further arguments of Ultralytics' trainer, as ``KEY=VALUE``.

    Raises:
        ConfigError: A value is out of range.
    """

    epochs: int = 10
    batch: int = 8
    imgsz: int = 640
    lr0: float = 1e-4
    optimizer: str = "AdamW"
    patience: int = 0
    seed: int = 0
    learn_amax: bool = False
    keep_bn: bool = False
    processes: int = 1
    weights: LossWeights = field(default_factory=LossWeights)
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        check_int("epochs", self.epochs, 1)
        check_int("batch", self.batch, 1)
        check_int("imgsz", self.imgsz, LEAST, GREATEST)
        check_pixels(self.imgsz, self.batch)
        check_number("lr0", self.lr0, positive=True)
        check_int("patience", self.patience, 0)
        check_seed(self.seed)
        check_bool("learn_amax", self.learn_amax)
        check_bool("keep_bn", self.keep_bn)
        check_int("processes", self.processes, 1)
        if self.batch % self.processes:
            raise ConfigError(
                f"a batch of {self.batch} images is shared by {self.processes} processes",
                expected="as many images for each",
                hint=f"set the batch to a multiple of {self.processes}",
            )


@dataclass(frozen=True)
class SupervisionConfig:
    """How a quantized detector is fine-tuned by layer-wise supervision, without labels.

    NVIDIA's yolov7_qat sample works so: every so many modules the output of the quantized model is drawn to that of the
    float one by their mean squared difference, with Adam and a learning rate that is given per epoch.

    Attributes:
        epochs: Passes over the images.
        batch: Images per step.
        imgsz: Side of the square letterbox in pixels, or (height, width) of another.
        rates: Learning rate from an epoch on (the first is 0), in rising order.
        stride: Every how many of the detector's top-level modules the output is supervised; the last one always is.
        seed: Seeds the order of the images.
        learn_amax: As in :class:`FinetuneConfig`.
        patience: As in :class:`FinetuneConfig`.

    Raises:
        ConfigError: A value is out of range.
    """

    epochs: int = 10
    batch: int = 8
    imgsz: ImageSize = 640
    rates: tuple[tuple[int, float], ...] = ((0, 1e-5),)
    stride: int = 1
    seed: int = 0
    learn_amax: bool = False
    patience: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        check_int("epochs", self.epochs, 1)
        check_int("batch", self.batch, 1)
        object.__setattr__(self, "imgsz", checked_imgsz(self.imgsz))
        check_pixels(self.imgsz, self.batch)
        check_int("stride", self.stride, 1)
        check_seed(self.seed)
        check_int("patience", self.patience, 0)
        check_bool("learn_amax", self.learn_amax)
        epochs = [epoch for epoch, _ in self.rates]
        if not epochs or epochs[0] != 0 or epochs != sorted(set(epochs)):
            raise ConfigError(
                f"the learning rates are given from the epochs {epochs}",
                expected="rising epochs, the first of them 0",
                hint="write e.g. 0:1e-6,6:1e-5",
            )
        for _, rate in self.rates:
            check_number("a learning rate", rate, positive=True)

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 0."""
        return next(rate for start, rate in reversed(self.rates) if epoch >= start)


def parse_rates(text: str) -> tuple[tuple[int, float], ...]:
    """Read a learning-rate schedule.

    Args:
        text: One rate, e.g. ``1e-5``, or rates from epochs on, e.g. ``0:1e-6,6:1e-5,7:1e-6``.

    Raises:
        ConfigError: It is neither.
    """
    parts = text.split(",")
    try:
        if len(parts) == 1 and ":" not in text:
            return ((0, float(text)),)
        pairs = [part.split(":") for part in parts]
        return tuple((int(epoch), float(rate)) for epoch, rate in pairs)
    except ValueError as error:
        raise ConfigError(
            f"the learning rate is {text!r}",
            expected="a number, or EPOCH:RATE pairs with commas between them",
            hint="write e.g. 1e-5 or 0:1e-6,6:1e-5",
        ) from error
