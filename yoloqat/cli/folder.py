"""The directory of results: it takes those of one line of settings, and others only where the user says so."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloqat.cli.command import Command, LightCommand
from yoloqat.cli.commands import Entry
from yoloqat.cli.fields import option_name
from yoloqat.errors import ConfigError, OutputError, YoloqatError
from yoloqat.provenance import digest, file_sha256, scratch_directory

RESULT, REPORT = "result.json", "report.html"
SCHEMA = {"name": "yoloqat/result", "version": 1}
_APART = ("help", "out", "json", "debug", "overwrite", "resume", "config", "quiet", "verbose", "log")
"""Options that change no result."""
_READ = ("data", "annotations", "float", "recipe", "int8_profile", "float_profile")
"""Options that name files whose content counts; so does that of every file without an option, the models."""
_HINT = "name another directory with --out, or replace what it holds with --overwrite"


@dataclass(frozen=True)
class Settings:
    """What a line asks for, by the names of the options, JSON-able: paths absolute, files by hash.

    Attributes:
        values: Of every option that may change a result, defaults among them.
        usual: Their defaults.
    """

    values: Mapping[str, Any]
    usual: Mapping[str, Any]

    @classmethod
    def of(cls, args: argparse.Namespace, command: Command | LightCommand) -> Settings:
        """Read every file that counts, once.

        Args:
            args: As parsed, with the ``parser`` of the command.
            command: Whose ``continues`` are left out.
        """
        values, usual = {}, {}
        for action in args.parser._actions:
            if action.dest in (*_APART, *command.continues):
                continue
            name = option_name(action) if action.option_strings else str(action.metavar or action.dest)
            read = not action.option_strings or action.dest in _READ
            values[name] = _plain(getattr(args, action.dest), read=read)
            usual[name] = _plain(action.default, read=read)
        return cls(values, usual)


def _plain(value: Any, *, read: bool) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(entry, read=read) for entry in value]
    if isinstance(value, str) and value.startswith("@"):  # a list of patterns
        return _plain(Path(value[1:]), read=True)
    if isinstance(value, Path):
        path = os.path.abspath(value)  # noqa: PTH100 - as typed, links kept
        return {"path": path, "sha256": _sha256(value)} if read else path
    return value


def _sha256(path: Path) -> str | None:
    """Return the hash of a file, or of an OpenVINO model's two; None where it cannot be read, which its reader tells."""
    try:
        if not path.is_dir():
            return file_sha256(path) if path.is_file() else None
        parts = sorted(part for part in path.iterdir() if part.suffix in (".xml", ".bin"))
        return digest([file_sha256(part) for part in parts])
    except (OSError, YoloqatError):
        return None


def directory(text: str) -> Path:
    """Return the path of a directory that an option names.

    Raises:
        ArgumentTypeError: The text is empty, which would be the current directory.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} names no directory; expected one; for the current directory type .")
    return Path(text)


def check_writable(out: Path) -> None:
    """Check that results can be written, before the work that leads to them.

    Raises:
        OutputError: The path, or the nearest that exists above it, is no directory or cannot be written to.
    """
    try:
        nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    except OSError as error:  # a name that is too long, a loop of links
        raise OutputError(
            f"cannot write to '{str(out)[:200]}' ({error.strerror})",
            expected="a writable directory",
            hint="name another directory with --out",
        ) from error
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise OutputError(
            f"cannot write to '{out}' ('{nearest}' is {'not writable' if nearest.is_dir() else 'a file'})",
            expected="a writable directory",
            hint="name another directory with --out",
        )


def _check_same(out: Path, asked: Settings, command: Command | LightCommand) -> None:
    """Check that a directory holds no results, or those of the same settings, which are then made again.

    Raises:
        ConfigError: It holds results of other settings; the first that differs is named. Or what it holds is not known.
    """
    former = _former(out)
    if former is None:
        return
    if former["command"] != command.name:
        raise _other(out, f"holds results of `yoloqat {former['command']}`", f"those of `yoloqat {command.name}`")
    theirs: Mapping[str, Any] = former["provenance"]["arguments"]
    differing = [(name, theirs.get(name, asked.usual[name]), value) for name, value in asked.values.items()]
    differing = [(name, their, our) for name, their, our in differing if not _same(their, our)]
    unknown = sorted(theirs.keys() - asked.values.keys())
    differing += [(name, theirs[name], None) for name in unknown if theirs[name] not in (None, False, [])]
    if differing:
        name, their, our = differing[0]
        others = ", ".join(name for name, *_ in differing[1:])
        more = f"; {others} {'differ' if differing[2:] else 'differs'} too" if others else ""
        told, wanted = _shown(their, our)
        raise _other(out, f"holds results made with {name} {told}", f"{wanted}, as this run has{more}")


def _same(theirs: Any, ours: Any) -> bool:
    if isinstance(theirs, dict) and isinstance(ours, dict) and None in (theirs.get("sha256"), ours.get("sha256")):
        return bool(theirs.get("path") == ours.get("path"))  # weights known by name, fetched since
    return bool(theirs == ours)


def _shown(theirs: Any, ours: Any) -> tuple[str, str]:
    texts = [value["path"] if isinstance(value, dict) and "path" in value else value for value in (theirs, ours)]
    shown = ["none" if text is None else repr(text) if isinstance(text, str) else json.dumps(text) for text in texts]
    if shown[0] == shown[1]:
        shown = [f"{shown[0]} before that file changed", "the file as it is now"]
    elif isinstance(ours, dict) and ours.get("sha256") is None and not os.path.lexists(ours["path"]):
        shown[1] += " (which does not exist)"
    return shown[0], shown[1]


def _other(out: Path, found: str, expected: str, hint: str = _HINT) -> ConfigError:
    return ConfigError(f"'{out}' {found}", expected=expected, hint=hint)


def _former(out: Path) -> dict[str, Any] | None:
    """Return the result that a directory holds.

    Raises:
        ConfigError: It holds a file of that name that is something else, or of a version that tells no settings.
    """
    if not (out / RESULT).exists():
        return None
    found = read_result(out, _HINT)
    provenance = found.get("provenance")
    if not isinstance(provenance, dict) or not isinstance(provenance.get("arguments"), dict):
        version = provenance.get("yoloqat") if isinstance(provenance, dict) else None
        told = f"holds results of yoloqat {version} that do not tell their settings"
        raise _other(out, told, "those of the same settings")
    return found


def read_result(folder: Path, hint: str) -> dict[str, Any]:
    """Return the result that a directory holds.

    Args:
        folder: The directory.
        hint: What to do where it holds none that can be read.

    Raises:
        ConfigError: There is none, it cannot be read, or it is something else or of another version.
    """
    try:
        found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise _other(folder, f"holds a {RESULT} that cannot be read ({reason})", "a result of yoloqat", hint) from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA or not isinstance(found.get("command"), str):
        told = f"with the schema {json.dumps(schema)[:80]}"
        raise _other(folder, f"holds a {RESULT} {told}", f"one with {json.dumps(SCHEMA)}", hint)
    return dict(found)


@contextmanager
def claimed(
    out: Path,
    args: argparse.Namespace,
    command: Command | LightCommand,
    commands: Mapping[str, Entry],
    asked: Settings,
) -> Iterator[None]:
    """Let a command write into a directory of results, if it holds none of other settings or the line says `--overwrite`.

    With that, what the command that wrote them wrote there is taken away, and nothing else: finished parts stay, which are
    found by their settings. Where the block fails before it has written anew, all comes back.

    Args:
        out: The directory of results.
        args: As parsed; no file that it names is taken away.
        command: Taken for the writer where the directory does not tell.
        commands: All there are, by name.
        asked: What the line asks for.

    Raises:
        ConfigError: It holds results of other settings, or a file that the line names is among those to take away or to write.
        OutputError: A file cannot be moved.
    """
    if not args.overwrite:
        _check_same(out, asked, command)
        _check_apart(out, args, command)
        yield
        return
    moved = _doomed(out, args, command, commands)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_directory(out)) if moved else out
            for path in moved:
                os.replace(path, folder / path.name)
        except OSError as error:
            _restore(moved, folder)
            raise OutputError(
                f"cannot replace the results in '{out}' ({error.strerror})",
                expected="a directory whose files may be moved",
                hint="name another directory with --out",
            ) from error
        try:
            yield
        except Exception:
            _restore(moved, folder)
            raise


def _restore(paths: Sequence[Path], folder: Path) -> None:
    """Move back what was moved into ``folder``, unless one of them has been written anew."""
    away = [path for path in paths if os.path.lexists(folder / path.name)]
    if not any(os.path.lexists(path) for path in away):
        for path in away:
            os.replace(folder / path.name, path)


def _doomed(
    out: Path, args: argparse.Namespace, command: Command | LightCommand, commands: Mapping[str, Entry]
) -> list[Path]:
    """Return the results in a directory.

    Raises:
        ConfigError: The line names one of them.
    """
    try:
        former = str((_former(out) or {}).get("command"))
    except ConfigError:
        former = ""
    writer = commands[former].load() if former in commands else command
    paths = [path for name in (*writer.files, RESULT, REPORT) if os.path.lexists(path := out / name)]
    doomed = _read_among(paths, args)
    if doomed is not None:
        raise ConfigError(
            f"--overwrite would remove '{doomed}', which this run reads",
            expected="results of which nothing is read",
            hint="name another directory with --out",
        )
    return paths


def _check_apart(out: Path, args: argparse.Namespace, command: Command | LightCommand) -> None:
    """Check that a command reads nothing that it writes.

    Raises:
        ConfigError: The line names such a file.
    """
    written = _read_among([out / name for name in (*command.files, RESULT, REPORT)], args)
    if written is not None:
        raise ConfigError(
            f"`yoloqat {command.name}` would replace '{written}', which this run reads",
            expected="results beside nothing that is read",
            hint="name another directory with --out",
        )


def _read_among(paths: Sequence[Path], args: argparse.Namespace) -> Path | None:
    """Return the first of some paths at or below which a line names something that is there; None where it names none."""
    named = [os.path.realpath(path) for path in _named(args) if os.path.lexists(path)]
    return next(
        (path for path in paths if any(Path(one).is_relative_to(os.path.realpath(path)) for one in named)), None
    )


def _named(args: argparse.Namespace) -> Iterator[Path]:
    """Yield every path that a line names to be read or written, without the directory of results."""
    for dest, value in vars(args).items():
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, Path) and dest != "out":
                yield entry
            elif isinstance(entry, str) and entry.startswith("@"):
                yield Path(entry[1:])
