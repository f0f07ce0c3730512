"""Options from a file: a YAML of options by name, or the result.json of an earlier run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from yoloqat.cli.fields import option_name
from yoloqat.errors import ConfigError
from yoloqat.provenance.plain_yaml import parse_yaml

OPTION = "--config"
_MOST_BYTES = 1 << 22


def with_config(argv: Sequence[str], parser: argparse.ArgumentParser, command: str) -> list[str]:
    """Return a line in which ``--config FILE`` is replaced by the options that the file holds, before all others.

    What is typed beside it counts more, since the last of two equal options does.

    Args:
        argv: Arguments after the command's name.
        parser: Of the command.
        command: Its name; a result of another command is refused.

    Raises:
        ConfigError: The file cannot be read, or holds an option that the command does not have.
    """
    words, files = list(argv), list[str]()
    while True:
        at = next((i for i, word in enumerate(words) if word == OPTION or word.startswith(f"{OPTION}=")), None)
        if at is None:
            break
        name, joined, value = words[at].partition("=")
        if not joined and at + 1 == len(words):
            raise ConfigError(f"{name} names no file", expected="a YAML or a result.json", hint=f"write {OPTION} FILE")
        files.append(value if joined else words[at + 1])
        del words[at : at + (1 if joined else 2)]
    if not files:
        return words
    actions = {option_name(action): action for action in parser._actions if action.option_strings}
    # the first that are typed: a positional of the file stands in only where none is typed
    named, positional = list[str](), list[str]()
    for file in files:
        for key, entry in _options(Path(file), command).items():
            option = f"--{key.removeprefix('--').replace('_', '-')}"
            if option in actions:
                named += _words(option, actions[option], entry)
            elif key.isupper():
                positional = [str(_text(part)) for part in (entry if isinstance(entry, list) else [entry])]
            else:
                raise ConfigError(
                    f"'{file}' holds the option '{key}'",
                    expected=f"options of `yoloqat {command}`",
                    hint=f"take it out, or see yoloqat {command} --help",
                )
    typed = parser.parse_known_args([*named, *words, *positional])[1] if positional else []
    return [*named, *words] if typed else [*named, *words, *positional]


def _options(path: Path, command: str) -> Mapping[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            raise ValueError("no file of options")
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else parse_yaml(text)[0]
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(
            f"options file '{path}' cannot be read ({reason})",
            expected="a YAML or a result.json",
            hint="check the path",
        ) from error
    if isinstance(content, dict) and "provenance" in content:
        if content.get("command") != command:
            raise ConfigError(
                f"'{path}' is a result of `yoloqat {content.get('command')}`",
                expected=f"one of `yoloqat {command}`",
                hint="name the result of the same command",
            )
        content = content["provenance"].get("arguments") if isinstance(content["provenance"], dict) else None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(
            f"options file '{path}' holds {type(content).__name__}",
            expected="options by name, e.g. imgsz: 640",
            hint="write one option a line",
        )
    return content


def _text(value: Any) -> Any:
    return value["path"] if isinstance(value, dict) and "path" in value else value


def _words(option: str, action: argparse.Action, value: Any) -> Iterator[str]:
    value = _text(value)
    if action.nargs == 0:  # a flag
        if value:
            yield option
        elif value is False and isinstance(action, argparse.BooleanOptionalAction):
            yield option.replace("--", "--no-", 1)
    elif value is not None:
        repeated = isinstance(value, list) and not isinstance(action, argparse._StoreAction)
        for entry in value if repeated else [value]:
            text = ",".join(map(str, entry)) if isinstance(entry, list) else str(_text(entry))
            yield f"{option}={text}"
