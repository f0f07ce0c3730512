"""What a model file says of itself, checked before anything relies on it: files come from strangers."""

from __future__ import annotations

import ast
import json
import reprlib
from collections.abc import Mapping
from typing import Any

from yoloqat.errors import ModelError
from yoloqat.predictor import ModelInfo

TASKS = ("detect", "segment", "pose", "obb")
"""The tasks whose boxes can be scored."""

MAX_SIDE, MAX_CHANNELS, MAX_BATCH, MAX_INDEX_DIGITS = 8192, 1024, 1 << 20, 9


def _shown(value: object) -> str:
    """Return a value as a line can hold it, however large or deep it is."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    short.maxlevel = 3
    return short.repr(value)


def unfit(source: str, key: str, value: object, *, expected: str, hint: str) -> ModelError:
    """Return the error that an entry is not what it must be, with as much of its value as a line holds."""
    return ModelError(f"metadata '{key}' of '{source}' is {_shown(value)}", expected=expected, hint=hint)


def plain_value(text: str) -> Any:
    """Return the value of a Python literal that JSON and YAML can hold too; any other text is returned as it is."""
    try:
        value = ast.literal_eval(text)
        json.dumps(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
    return value


def checked_whole(source: str, key: str, value: object, high: int, *, hint: str) -> int:
    """Return a whole number from 1 to ``high``.

    Raises:
        ModelError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= high:
        raise unfit(source, key, value, expected=f"a whole number from 1 to {high}", hint=hint)
    return value


def checked_names(source: str, value: object, *, hint: str) -> dict[int, str]:
    """Return class index to class name.

    Args:
        source: The file, named in errors.
        value: A list, or a dict whose keys are numbers or, as JSON has them, the text of numbers.
        hint: What to do about it.

    Raises:
        ModelError: There are none, their indices do not run from 0 without gaps, or one is no text that can be written.
    """
    given: Any = dict(enumerate(value)) if isinstance(value, list | tuple) else value
    names = {_index(key): name for key, name in given.items()} if isinstance(given, dict) else {}
    whole = len(names) == len(given or ()) if isinstance(given, dict) else False
    if not names or not whole or set(names) != set(range(len(names))):
        raise unfit(source, "names", value, expected="class names numbered from 0 without gaps", hint=hint)
    for index, name in names.items():
        if isinstance(name, bool) or not isinstance(name, str | int | float) or not writable(str(name)):
            raise unfit(source, f"names[{index}]", name, expected="a name of characters that can be written", hint=hint)
    return {index: str(names[index]) for index in range(len(names))}


def _index(key: object) -> object:
    if isinstance(key, bool):
        return None
    if isinstance(key, str):
        return int(key) if key.isdecimal() and len(key) <= MAX_INDEX_DIGITS else None
    return key if isinstance(key, int) else None


def writable(text: str) -> bool:
    """Return whether a text can be written to a file and to a terminal: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def checked_sides(source: str, value: object, *, hint: str) -> tuple[int, int]:
    """Return (height, width) of a side or of a list of one or two.

    Raises:
        ModelError: It is neither, or a side is out of range.
    """
    pair = list(value) if isinstance(value, list | tuple) else [value]
    if len(pair) not in (1, 2):
        raise unfit(source, "imgsz", value, expected="one side, or height and width", hint=hint)
    height, width = (checked_whole(source, "imgsz", side, MAX_SIDE, hint=hint) for side in (pair[0], pair[-1]))
    return height, width


def checked_info(source: str, values: Mapping[str, Any], *, hint: str) -> ModelInfo:
    """Return what a file says of its model.

    Args:
        source: The file, named in errors.
        values: ``names`` is required; ``stride``, ``task``, ``end2end``, ``imgsz``, ``batch`` and ``channels`` may be absent or
            None, and then are the defaults of :class:`~yoloqat.predictor.ModelInfo`. Other keys are ignored.
        hint: What to do about a wrong one.

    Raises:
        ModelError: An entry is missing, of another type or out of range.
    """
    known = {key: value for key, value in values.items() if value is not None}
    if "names" not in known:
        raise ModelError(
            f"'{source}' has the metadata {_shown(sorted(map(str, known)))}",
            expected="class names under 'names'",
            hint=hint,
        )
    task, end2end = known.get("task", ModelInfo.task), known.get("end2end", ModelInfo.end2end)
    if not isinstance(task, str) or task not in TASKS:
        raise unfit(source, "task", task, expected=f"one of {', '.join(TASKS)}", hint=hint)
    if not isinstance(end2end, bool):
        raise unfit(source, "end2end", end2end, expected="True or False", hint=hint)
    return ModelInfo(
        names=checked_names(source, known["names"], hint=hint),
        stride=checked_whole(source, "stride", known.get("stride", ModelInfo.stride), MAX_SIDE, hint=hint),
        task=task,
        end2end=end2end,
        imgsz=checked_sides(source, known["imgsz"], hint=hint) if "imgsz" in known else None,
        batch=checked_whole(source, "batch", known["batch"], MAX_BATCH, hint=hint) if "batch" in known else None,
        channels=checked_whole(source, "channels", known.get("channels", ModelInfo.channels), MAX_CHANNELS, hint=hint),
    )
