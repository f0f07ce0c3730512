"""Architecture descriptions in model files, checked against a closed vocabulary before a model is built.

A description is data from strangers that Ultralytics would evaluate: names of layers become calls, texts become code.
:func:`checked` rebuilds it from words of fixed lists and numbers within bounds alone.
"""

from __future__ import annotations

import ast
import difflib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from torch import nn

from yoloqat.errors import ModelError
from yoloqat.metadata import MAX_CHANNELS

ACTIVATIONS = (
    "CELU",
    "ELU",
    "GELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Identity",
    "LeakyReLU",
    "LogSigmoid",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SELU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
)
"""The classes of `torch.nn` that an activation may be."""

_WORDS = frozenset({"None", "True", "False", "nearest", "nearest-exact", "bilinear", "bicubic", "area", "tanh", "none"})
"""Texts that arguments may be in every family."""

MAX_LAYERS, MAX_REPEATS, MAX_CLASSES = 300, 100, 100_000
"""Bounds of a description: its entries, the repeats of one, its classes, the channels of its image."""

MAX_NUMBER = 8192
"""The largest number that an argument, e.g. the channels of a layer, may be."""

MAX_FACTOR = 16.0
"""The largest multiple of depth or width."""

_MAX_TEXT, _MAX_LIST, _MAX_SCALES = 200, 64, 32
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?")


@dataclass(frozen=True)
class Vocabulary:
    """Vocabulary of the descriptions of a family.

    Attributes:
        layers: Names of the layers before the head.
        heads: Names of the last layer, by task.
        words: Texts that arguments may be, beside those of every family.
        required: Keys that the architecture must have.
    """

    layers: frozenset[str]
    heads: Mapping[str, frozenset[str]]
    words: frozenset[str]
    required: tuple[str, ...]


def refuse(what: str, *, expected: str, hint: str = "pass the checkpoint of an unchanged YOLO") -> NoReturn:
    """Raise the error of a refused description.

    Raises:
        ModelError: Always.
    """
    raise ModelError(f"in the architecture description {what}", expected=expected, hint=hint)


def _shown(value: Any) -> str:
    if type(value) is int and value.bit_length() > 64:  # Python refuses to print the largest
        return f"a number of {value.bit_length()} bits"
    if type(value) not in (str, int, float, bool, type(None)):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _integer(value: Any, where: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        refuse(f"{where} is {_shown(value)}", expected=f"a whole number of {low} to {high}")
    return value


def _number(value: Any, where: str, low: float, high: float) -> float:
    if type(value) not in (int, float) or not low <= value <= high:
        refuse(f"{where} is {_shown(value)}", expected=f"a number of {low:g} to {high:g}")
    return value  # type: ignore[no-any-return]


def _list(value: Any, where: str, limit: int = _MAX_LIST) -> list[Any]:
    if type(value) not in (list, tuple) or len(value) > limit:
        refuse(f"{where} is {_shown(value)}", expected=f"a list of at most {limit} entries")
    return list(value)


def _text(value: Any, where: str) -> str:
    if type(value) is not str or len(value) > _MAX_TEXT:
        refuse(f"{where} is {_shown(value)}", expected=f"a text of at most {_MAX_TEXT} characters")
    return value


def activation_text(text: Any) -> str:
    """Return the canonical text of an activation, e.g. ``"torch.nn.LeakyReLU(0.1)"``; nothing is evaluated.

    Args:
        text: As a description gives it: ``[torch.]nn.NAME(...)`` with literal arguments.

    Raises:
        ModelError: It is anything but a class of :data:`ACTIVATIONS` with arguments that are literals.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # what the parser thinks of the style is nothing to the user
            call = ast.parse(_text(text, "the activation").strip(), mode="eval").body
        if not isinstance(call, ast.Call) or any(keyword.arg is None for keyword in call.keywords):
            raise TypeError("no plain call")
        path = ast.unparse(call.func).removeprefix("torch.")
        name = path.removeprefix("nn.")
        if f"nn.{name}" != path or name not in ACTIVATIONS:
            raise TypeError("another name")
        values = [_argument(ast.literal_eval(value), "the activation", frozenset()) for value in call.args]
        named = {
            str(keyword.arg): _argument(ast.literal_eval(keyword.value), "the activation", frozenset())
            for keyword in call.keywords
        }
        getattr(nn, name)(*values, **named)
    except (SyntaxError, TypeError, ValueError, RuntimeError, MemoryError, RecursionError, ModelError) as error:
        raise ModelError(
            f"in the architecture description the activation is {_shown(text)}",
            expected=f"nn.NAME() with plain numbers, NAME one of {', '.join(ACTIVATIONS)}",
            hint="pass a model that uses one of these",
        ) from error
    return f"torch.nn.{name}({', '.join([*map(repr, values), *(f'{key}={value!r}' for key, value in named.items())])})"


def is_activation(text: str) -> bool:
    """Return whether a text is one that :func:`activation_text` takes."""
    try:
        activation_text(text)
    except ModelError:
        return False
    return True


def _argument(value: Any, where: str, words: frozenset[str], depth: int = 0) -> Any:
    """Return an argument of a layer: a number, a word of the list, None, or a list of these."""
    if value is None or type(value) is bool:
        return value
    if type(value) in (int, float):
        return _number(value, where, -MAX_NUMBER, MAX_NUMBER)
    if type(value) in (list, tuple) and depth < 2:
        return [_argument(entry, where, words, depth + 1) for entry in _list(value, where)]
    if type(value) is str:
        if value in _WORDS or value in words:
            return value
        if len(value) <= _MAX_TEXT and (number := _NUMBER.fullmatch(value)):
            return _argument((float if number[1] else int)(value), where, words, depth)
        if is_activation(value):
            return activation_text(value).removeprefix("torch.")
    refuse(
        f"{where} has the argument {_shown(value)}",
        expected=f"a number of -{MAX_NUMBER} to {MAX_NUMBER}, a list of numbers, or one of "
        f"{', '.join(sorted(_WORDS | words))}",
    )


def _source(value: Any, where: str, index: int) -> int:
    if type(value) is not int or not (-index <= value < index or value == -1):
        refuse(f"{where} reads the layer {_shown(value)}", expected=f"one of the {index} layers before it, or -1")
    return value


def _entry(entry: Any, index: int, kinds: frozenset[str], words: frozenset[str]) -> list[Any]:
    """Return a checked copy of ``[from, repeats, layer, arguments]``."""
    where = f"layer {index}"
    parts = _list(entry, where)
    if len(parts) != 4:
        refuse(f"{where} has {len(parts)} parts", expected="4: from, repeats, layer, arguments")
    source, repeats, kind, arguments = parts
    if type(kind) is not str or kind not in kinds:
        refuse(
            f"{where} is {_shown(kind)}, which is not supported there",
            expected=f"one of {', '.join(difflib.get_close_matches(str(kind)[:60], kinds, 5, 0) or sorted(kinds))}",
            hint="pass a model of layers that Ultralytics, YOLOv5 or YOLOv7 have themselves",
        )
    where = f"layer {index} ({kind})"
    several = type(source) in (list, tuple)
    sources = [_source(place, where, index) for place in (_list(source, where) if several else [source])]
    if not sources:
        refuse(f"{where} reads no layer", expected="at least one")
    listed = [_argument(value, where, words) for value in _list(arguments, where)]
    return [
        sources if several else sources[0],
        _integer(repeats, f"the repeats of {where}", 1, MAX_REPEATS),
        kind,
        listed,
    ]


def _layers(yaml: Mapping[str, Any], vocabulary: Vocabulary, task: str) -> dict[str, list[Any]]:
    backbone, head = (_list(yaml.get(part), f"'{part}'", MAX_LAYERS) for part in ("backbone", "head"))
    entries = [*backbone, *head]
    if len(entries) < 2 or not head:
        refuse(f"there are {len(entries)} layers, {len(head)} of them in 'head'", expected="layers and a head")
    last = len(entries) - 1
    made = [
        _entry(entry, index, vocabulary.heads[task] if index == last else vocabulary.layers, vocabulary.words)
        for index, entry in enumerate(entries)
    ]
    return {"backbone": made[: len(backbone)], "head": made[len(backbone) :]}


def _scales(value: Any) -> dict[str, list[float]]:
    if type(value) is not dict or not 1 <= len(value) <= _MAX_SCALES:
        refuse(f"'scales' is {_shown(value)}", expected="depth, width and channels at most by name")
    made: dict[str, list[float]] = {}
    for name, entry in value.items():
        parts = _list(entry, "an entry of 'scales'", 3)
        if len(parts) != 3:
            refuse(f"an entry of 'scales' has {len(parts)} parts", expected="3: depth, width, channels at most")
        factors = [_number(part, "a factor of 'scales'", 0.01, MAX_FACTOR) for part in parts[:2]]
        made[_text(name, "a name in 'scales'")] = [*factors, _number(parts[2], "a limit of 'scales'", 1, 1e6)]
    return made


def _anchors(value: Any) -> Any:
    if type(value) is int:
        return _integer(value, "'anchors'", 1, _MAX_LIST)
    return [
        [_number(size, "a size of 'anchors'", 0, 1e5) for size in _list(level, "a level of 'anchors'")]
        for level in _list(value, "'anchors'")
    ]


def _settings(yaml: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description's entries other than layers, without the keys that inference does not need."""
    made: dict[str, Any] = {}
    for key in ("depth_multiple", "width_multiple"):
        if key in yaml:
            made[key] = _number(yaml[key], f"'{key}'", 0.01, MAX_FACTOR)
    for key, high in (("channels", MAX_CHANNELS), ("ch", MAX_CHANNELS), ("nc", MAX_CLASSES), ("reg_max", 256)):
        if yaml.get(key) is not None:
            made[key] = _integer(yaml[key], f"'{key}'", 1, high)
    for key in ("end2end", "inplace"):
        if yaml.get(key) is not None:
            if type(yaml[key]) is not bool:
                refuse(f"'{key}' is {_shown(yaml[key])}", expected="true or false")
            made[key] = yaml[key]
    if yaml.get("scales") is not None:
        made["scales"] = _scales(yaml["scales"])
    for key in ("scale", "yaml_file"):
        if yaml.get(key) is not None:
            made[key] = _text(yaml[key], f"'{key}'")
    if made.get("scale") and made.get("scales") and made["scale"] not in made["scales"]:
        refuse(f"'scale' is {_shown(made['scale'])}", expected=f"one of {', '.join(made['scales'])}")
    if yaml.get("kpt_shape") is not None:
        made["kpt_shape"] = [
            _integer(part, "a part of 'kpt_shape'", 1, MAX_CHANNELS)
            for part in _list(yaml["kpt_shape"], "'kpt_shape'", 2)
        ]
    if yaml.get("activation") is not None:
        made["activation"] = activation_text(yaml["activation"])
    if yaml.get("anchors") is not None:
        made["anchors"] = _anchors(yaml["anchors"])
    return made


def checked(architecture: Any, vocabulary: Vocabulary) -> dict[str, Any]:
    """Return a copy of an architecture, rebuilt from the words and numbers of a family's vocabulary.

    Args:
        architecture: From a model file, of either kind: the description ``yaml``, ``channels``, ``classes`` and the
            other keys that the vocabulary requires.
        vocabulary: The family's vocabulary.

    Raises:
        ModelError: Anything in it is outside the vocabulary, e.g. a path in place of the description.
    """
    if type(architecture) is not dict:
        raise ModelError(
            f"the architecture is {_shown(architecture)}", expected="a dict", hint="make the checkpoint again"
        )
    for key in vocabulary.required:
        if key not in architecture:
            raise ModelError(
                f"the architecture lacks '{key}'",
                expected=f"the keys {', '.join(vocabulary.required)}",
                hint="make the checkpoint again",
            )
    yaml = architecture["yaml"]
    if type(yaml) is not dict:
        raise ModelError(
            f"the architecture description is {_shown(yaml)}",
            expected="the description itself, not the name of a file",
            hint="make the checkpoint again",
        )
    made: dict[str, Any] = {}
    task = "detect"
    if "task" in vocabulary.required:
        task = architecture["task"]
        if type(task) is not str or task not in vocabulary.heads:
            refuse(f"the task is {_shown(task)}", expected=f"one of {', '.join(vocabulary.heads)}")
        made["task"] = task
    made["yaml"] = _settings(yaml) | _layers(yaml, vocabulary, task)
    made["channels"] = _integer(architecture["channels"], "the number of channels", 1, MAX_CHANNELS)
    made["classes"] = _integer(architecture["classes"], "the number of classes", 1, MAX_CLASSES)
    if "act" in vocabulary.required:
        made["act"] = activation_text(architecture["act"]).removeprefix("torch.")
    return made
