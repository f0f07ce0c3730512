"""Which file tells what: layer information, a log, a profile, counters; by what it holds, not by its name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloqat.engines.openvino_files import is_directory
from yoloqat.engines.reading.layer import UNKNOWN, Layer
from yoloqat.engines.reading.openvino_counters import csv_counters, is_counters, json_counters, run_counters
from yoloqat.engines.reading.report import EngineReport, check_one_engine, with_times
from yoloqat.engines.reading.trt_json import json_layer, json_times
from yoloqat.engines.reading.trt_log import log_layers, log_times
from yoloqat.errors import ConfigError, EngineError, ModelError

_KINDS = "a trtexec log, its --exportLayerInfo or --exportProfile, or counters of OpenVINO"
_HINT = "run trtexec with --verbose --profilingVerbosity=detailed --dumpProfile, or see `yoloqat engine-report --help`"


@dataclass(frozen=True)
class _Told:
    """What one file tells."""

    source: str
    layers: tuple[Layer, ...] = ()
    times: tuple[tuple[str, float], ...] = ()
    runtime: str = "tensorrt"

    @property
    def typed(self) -> int:
        return sum(layer.precision_in != UNKNOWN for layer in self.layers)


def read_reports(paths: Sequence[Path], *, threads: int = 1) -> EngineReport:
    """Read what files tell of one engine and join it: layers from the one that tells most types, times from another.

    Args:
        paths: Logs, JSON, CSV, or one OpenVINO folder, which is run.
        threads: Threads of an OpenVINO folder.

    Raises:
        ModelError: A file cannot be read.
        EngineError: A file tells nothing of layers, or two are of different engines.
        ConfigError: No file is named, or files of two runtimes are.
    """
    if not paths:
        raise ConfigError(f"files are {list(paths)}", expected="at least one", hint="name a log or an export of layers")
    told = [_read(Path(path), threads) for path in paths]
    runtimes = {part.runtime: part.source for part in told}
    if len(runtimes) > 1:
        first, second = runtimes.values()
        raise ConfigError(
            f"'{first}' is of {next(iter(runtimes))}, '{second}' of another runtime",
            expected="files of one engine",
            hint="report on each in a run of its own",
        )
    best = max(told, key=lambda part: (part.typed, len(part.layers)))
    timed = next((part for part in told if part.times), None)
    for part in told:
        names, others = ([layer.name for layer in one.layers] for one in (best, part))
        check_one_engine(names, others, (best.source, part.source))
    layers = list(best.layers)
    if timed is not None:
        layers = with_times(layers, timed.times, (best.source, timed.source))
    return EngineReport(tuple(layers), told[0].runtime)


def _read(path: Path, threads: int) -> _Told:
    source = str(path)
    if is_directory(path):
        return _Told(source, tuple(run_counters(path, threads=threads)), runtime="openvino")
    try:
        text = _decoded(path.read_bytes())
    except OSError as error:
        raise ModelError(
            f"cannot read '{path}' ({error.strerror or error})", expected=_KINDS, hint="check the path"
        ) from error
    try:
        told = _of_text(text, source)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EngineError(
            f"'{path}' is not as its tool writes it ({type(error).__name__}: {error!s:.120})",
            expected=_KINDS,
            hint=_HINT,
        ) from error
    if not told.layers and not told.times:
        begins = f"begins with {text[:60]!r} and" if text.strip() else "is empty and"
        raise EngineError(f"'{path}' {begins} tells of no layer", expected=_KINDS, hint=_HINT)
    return told


def _decoded(data: bytes) -> str:
    """Return a file's text; shells of Windows write UTF-16 with a byte order mark where output is sent to a file."""
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return data.decode("utf-16" if wide else "utf-8-sig", errors="replace").replace("\r\n", "\n")


def _of_text(text: str, source: str) -> _Told:
    if is_counters(text):
        return _Told(source, tuple(csv_counters(text)), runtime="openvino")
    document = _document(text)
    if document is None:
        lines = text.split("\n")  # not splitlines: a character of TensorRT's metadata ends lines there
        return _Told(source, tuple(log_layers(lines)), tuple(log_times(lines)))
    if isinstance(document, list):
        return _Told(source, times=tuple(json_times(document)))
    if "report_type" in document:
        return _Told(source, tuple(json_counters(document, source)), runtime="openvino")
    entries = document["Layers"]
    if not isinstance(entries, list):
        raise TypeError(f"'Layers' is {entries!r:.60}, no list")
    return _Told(source, tuple(json_layer(entry) for entry in entries))


def _document(text: str) -> Any:
    """Return parsed JSON, or None of a text that is none."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except ValueError:
        if text.lstrip().startswith('{"Layers"'):
            raise  # cut off
        return None  # a log, whose lines begin with [
