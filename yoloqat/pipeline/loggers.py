"""Runs in TensorBoard, MLflow or W&B, all written to a directory without a network, through one small interface."""

from __future__ import annotations

import importlib
import logging
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from yoloqat.errors import ConfigError, DependencyError, OutputError
from yoloqat.results import Table

_ROWS = ("map50_95", "drop", "d", "calibration_seconds")
"""Figures of each method of `compare`."""
_NO_ARTIFACT = (".db",)
"""Ends of files that serve to go on with a command alone."""


class Logger(Protocol):
    """What a command tells while it runs and when it is done."""

    def scalar(self, name: str, value: float, step: int | None = None) -> None:
        """Note a number; with ``step`` it is a point of a curve, such as one of an epoch."""

    def table(self, name: str, table: Table) -> None:
        """Note a table."""

    def image(self, name: str, png: bytes) -> None:
        """Note a picture, a PNG."""

    def artifact(self, path: Path) -> None:
        """Note a file that was written."""

    def close(self) -> None:
        """Write what is still in memory."""


@dataclass(frozen=True)
class NoLogger:
    """Notes nothing."""

    def scalar(self, name: str, value: float, step: int | None = None) -> None:
        """Note nothing."""

    def table(self, name: str, table: Table) -> None:
        """Note nothing."""

    def image(self, name: str, png: bytes) -> None:
        """Note nothing."""

    def artifact(self, path: Path) -> None:
        """Note nothing."""

    def close(self) -> None:
        """Do nothing."""


NO_LOGGER = NoLogger()


class _TensorBoard:
    """Event files in a directory of the run's name; of an artifact its path alone."""

    def __init__(self, text: str, directory: Path, name: str, settings: Mapping[str, Any]) -> None:
        _module("tensorboard", text)
        writer = _module("torch.utils.tensorboard", text).SummaryWriter
        self._writer: Any = writer(str(directory / name))
        self._writer.add_text("settings", _code("\n".join(f"{key}: {value}" for key, value in settings.items())))

    def scalar(self, name: str, value: float, step: int | None = None) -> None:
        self._writer.add_scalar(name, value, step or 0)

    def table(self, name: str, table: Table) -> None:
        self._writer.add_text(name, _code(str(table)))

    def image(self, name: str, png: bytes) -> None:
        image, numpy = importlib.import_module("PIL.Image"), importlib.import_module("numpy")
        with tempfile.TemporaryFile() as file:
            file.write(png)
            self._writer.add_image(name, numpy.asarray(image.open(file).convert("RGB")), dataformats="HWC")

    def artifact(self, path: Path) -> None:
        self._writer.add_text(f"files/{path.name}", str(path.absolute()))

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    """A SQLite file with the runs, and their artifacts beside it; MLflow has given up its store of plain files."""

    def __init__(self, text: str, directory: Path, name: str, settings: Mapping[str, Any]) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported and later
        tracking = _module("mlflow.tracking", text)
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table of a new file
        directory = directory.absolute()
        directory.mkdir(parents=True, exist_ok=True)
        self._client: Any = tracking.MlflowClient(tracking_uri=f"sqlite:///{(directory / 'mlflow.db').as_posix()}")
        known = self._client.get_experiment_by_name("yoloqat")
        place = (directory / "artifacts").as_uri()
        experiment = (
            known.experiment_id if known else self._client.create_experiment("yoloqat", artifact_location=place)
        )
        self._run: str = self._client.create_run(experiment, run_name=name).info.run_id
        for key, value in settings.items():
            self._client.log_param(self._run, _mlflow_key(key), str(value)[:500])

    def scalar(self, name: str, value: float, step: int | None = None) -> None:
        self._client.log_metric(self._run, _mlflow_key(name), value, step=step or 0)

    def table(self, name: str, table: Table) -> None:
        self._client.log_text(self._run, str(table), f"tables/{_file_name(name)}.txt")

    def image(self, name: str, png: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{_file_name(name)}.png")
            path.write_bytes(png)
            self._client.log_artifact(self._run, str(path), "plots")

    def artifact(self, path: Path) -> None:
        self._client.log_artifact(self._run, str(path))

    def close(self) -> None:
        self._client.set_terminated(self._run)


class _Wandb:
    """A run in W&B's offline mode, which `wandb sync` uploads where somebody asks for it."""

    def __init__(self, text: str, directory: Path, name: str, settings: Mapping[str, Any]) -> None:
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # read when it is imported
        self._wandb: Any = _module("wandb", text)
        directory.mkdir(parents=True, exist_ok=True)
        quiet = self._wandb.Settings(silent=True, console="off", disable_git=True)
        self._run: Any = self._wandb.init(
            mode="offline", project="yoloqat", name=name, dir=str(directory), config=dict(settings), settings=quiet
        )
        self._stepped: set[str] = set()

    def scalar(self, name: str, value: float, step: int | None = None) -> None:
        if step is None:
            self._run.summary[name] = value
            return
        if name not in self._stepped:
            self._stepped.add(name)
            self._run.define_metric(name, step_metric="step")
        self._run.log({name: value, "step": step})

    def table(self, name: str, table: Table) -> None:
        columns = [column or f"column {number}" for number, column in enumerate(table.columns, 1)]
        self._run.log({name: self._wandb.Table(columns=columns, data=[list(row) for row in table.rows])})

    def image(self, name: str, png: bytes) -> None:
        image = importlib.import_module("PIL.Image")
        with tempfile.TemporaryFile() as file:
            file.write(png)
            self._run.log({name: self._wandb.Image(image.open(file))})

    def artifact(self, path: Path) -> None:
        shutil.copyfile(path, Path(self._run.dir, path.name))  # its own way makes a link

    def close(self) -> None:
        self._run.finish()


_KINDS: dict[str, Callable[[str, Path, str, Mapping[str, Any]], Logger]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": _Wandb,
}
KINDS = tuple(_KINDS)


@contextmanager
def opened_logger(text: str | None, out: Path, command: str, settings: Mapping[str, Any]) -> Iterator[Logger]:
    """Give the logger that a line asks for, and close it.

    Args:
        text: ``tensorboard``, ``mlflow`` or ``wandb``, and behind a colon the directory, or None for no logger.
        out: The directory of results: a directory of the logger's name in it takes the run where none is named, and its own
            name is that of the run.
        command: The command, which is the run's name where the directory has none.
        settings: What the line asks for, which is kept with the run.

    Raises:
        ConfigError: There is no such logger.
        DependencyError: Its package is not installed.
        OutputError: The directory cannot be written to.
    """
    if text is None:
        yield NO_LOGGER
        return
    kind, colon, named = text.partition(":")
    if kind not in _KINDS or (colon and not named.strip()):
        raise ConfigError(
            f"log is '{text}'",
            expected=f"{', '.join(KINDS)}, or one with :DIR behind it",
            hint="write e.g. `log=tensorboard`",
        )
    directory = Path(named) if named else out / kind
    try:  # the library first: one that is absent leaves no empty directory
        logger = _KINDS[kind](text, directory, out.name or command, {"command": command, **settings})
    except DependencyError:
        raise
    except Exception as error:  # each library has errors of its own
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {str(error).partition(chr(10))[0]:.200}"
        raise OutputError(
            f"cannot write the log to '{directory}' ({reason})",
            expected="a directory that can be made and written to",
            hint="name another directory in `log`",
        ) from error
    try:
        yield logger
    finally:
        logger.close()


def log_epochs(logger: Logger, rows: Sequence[Mapping[str, Any]]) -> None:
    """Note the figures of epochs as points of curves.

    Args:
        logger: Notes them.
        rows: With ``epoch`` and any of ``map50_95``, ``d``, ``loss``.
    """
    for row in rows:
        _log_point(logger, "epochs", row, int(row["epoch"]), ("map50_95", "d", "loss"))


def log_result(
    logger: Logger, command: str, results: Mapping[str, Any], tables: Sequence[Table], files: Sequence[Path]
) -> None:
    """Note what a command found: its numbers, curves, tables, pictures and files.

    Args:
        logger: Notes them.
        command: Such as ``"compare"``.
        results: Its results.
        tables: What a person is shown.
        files: What it wrote; directories, and files that serve to go on with the command alone, are left out.
    """
    from yoloqat.report.plots import plots_of  # matplotlib takes its time, which other commands do not need

    for name, value in results.items():
        nested = value.items() if name in ("baseline", "quantized", "start", "weights", "activations") and value else ()
        for key, found in [(name, value), *((f"{name}/{inner}", entry) for inner, entry in nested)]:
            if _number(found):
                logger.scalar(key, float(found))
    for row in results.get("methods") or ():
        method = "-".join([row["method"], *(f"{part:.10g}" for part in (row.get("params") or {}).values())])
        _log_point(logger, f"methods/{method}", row, None, _ROWS)
    for point in results.get("curve") or ():
        if isinstance(point.get("float_layers"), int):
            keys = ("d_predicted", "d_estimated", "d", "int8_mac_share")
            _log_point(logger, "curve", point, point["float_layers"], keys)
    for number, table in enumerate(tables, 1):
        logger.table(f"tables/{number}", table)
    for name, picture in plots_of(command, results):
        logger.image(f"plots/{name}", picture.to_png())
    for path in files:
        if path.is_file() and path.suffix not in _NO_ARTIFACT:
            logger.artifact(path)


def _log_point(logger: Logger, group: str, row: Mapping[str, Any], step: int | None, keys: Sequence[str]) -> None:
    for key in keys:
        if _number(row.get(key)):
            logger.scalar(f"{group}/{key}", float(row[key]), step)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _module(name: str, text: str) -> Any:
    """Import a module of a package that is extra.

    Raises:
        DependencyError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyError(
            f"log is '{text}' and {name.partition('.')[0]} cannot be imported ({error})",
            expected="the package that writes such runs",
            hint="pip install 'yoloqat[log]', or leave out `log`",
        ) from error


def _code(text: str) -> str:
    """Return a text as TensorBoard shows it line by line, which reads Markdown."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _mlflow_key(name: str) -> str:
    return re.sub(r"[^\w\-. /:]", "_", name)


def _file_name(name: str) -> str:
    return name.rpartition("/")[2]
