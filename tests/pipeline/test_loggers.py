"""The interface of loggers by a fake, and each library for real where it is installed."""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from yoloqat.errors import ConfigError, DependencyError, OutputError
from yoloqat.pipeline import loggers
from yoloqat.pipeline.loggers import KINDS, NO_LOGGER, log_epochs, log_result, opened_logger
from yoloqat.results import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from made_results import budget, fidelity, former

TABLE = Table("t", ("name", "d"), (("a", "0.1"), ("b", "0.2")))


class Fake:
    def __init__(self) -> None:
        self.scalars: dict[tuple[str, int | None], float] = {}
        self.tables: list[Table] = []
        self.images: dict[str, bytes] = {}
        self.files: list[str] = []

    def scalar(self, name: str, value: float, step: int | None = None) -> None:
        self.scalars[name, step] = value

    def table(self, name: str, table: Table) -> None:
        self.tables.append(table)

    def image(self, name: str, png: bytes) -> None:
        self.images[name] = png

    def artifact(self, path: Path) -> None:
        self.files.append(path.name)

    def close(self) -> None:
        self.files.append("closed")


def told(command: str, results: dict[str, Any], tmp_path: Path) -> Fake:
    for name in ("result.json", "study.db"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "model_openvino").mkdir()
    fake = Fake()
    log_result(fake, command, results, [TABLE], sorted(tmp_path.iterdir()))
    assert fake.tables == [TABLE]
    assert fake.files == ["result.json"], "no directory, and no file that serves to go on"
    return fake


def test_a_comparison_notes_every_method(tmp_path: Path) -> None:
    results = fidelity()["results"]
    fake = told("compare", {key: value for key, value in results.items() if key != "epochs"}, tmp_path)
    row = results["methods"][0]
    assert fake.scalars["methods/max/d", None] == row["d"]
    assert fake.scalars["methods/max/drop", None] == row["drop"]
    assert fake.scalars["baseline/map50_95", None] == results["baseline"]["map50_95"]
    assert [name for name, _ in fake.scalars if name.startswith("methods/percentile")], "with its parameter"
    assert fake.images["plots/methods"].startswith(b"\x89PNG")


def test_a_noise_budget_notes_its_curve(tmp_path: Path) -> None:
    results = budget()["results"]
    fake = told("sensitivity", results, tmp_path)
    curve = [value for (name, step), value in fake.scalars.items() if name == "curve/d_estimated"]
    assert curve == [point["d_estimated"] for point in results["curve"]]
    assert fake.scalars["curve/d", 2] == 0.011
    assert (fake.scalars["d", None], fake.scalars["weights/d", None]) == (0.04, 0.01)
    assert list(fake.images) == ["plots/budget"]


def test_epochs_are_points_of_curves_and_what_is_unknown_is_left_out() -> None:
    fake = Fake()
    log_epochs(
        fake, [{"epoch": 0, "d": 0.2, "loss": None}, {"epoch": 1, "d": 0.1, "loss": float("nan"), "map50_95": 0.5}]
    )
    assert fake.scalars == {("epochs/d", 0): 0.2, ("epochs/d", 1): 0.1, ("epochs/map50_95", 1): 0.5}


@pytest.mark.parametrize("text", ["tensorbord", "mlflow:", "wandb: ", ":runs", ""])
def test_a_logger_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match=f"log is '{text}'; expected tensorboard, mlflow, wandb"),
        opened_logger(text, tmp_path, "compare", {}),
    ):
        pass


@pytest.mark.parametrize(("kind", "module"), [("tensorboard",) * 2, ("mlflow", "mlflow.tracking"), ("wandb",) * 2])
def test_a_library_that_is_absent_is_named(kind: str, module: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if module != kind:
        monkeypatch.setitem(sys.modules, kind, None)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "true")
    with (
        pytest.raises(DependencyError, match=f"log is '{kind}' and {kind} cannot be imported .* pip install 'yoloqat"),
        opened_logger(kind, tmp_path / "out", "compare", {}),
    ):
        pass
    assert not list(tmp_path.iterdir()), "no empty directory is left"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotADirectoryError(20, "Not a directory"), "Not a directory"),
        (RuntimeError("locked\nx"), "RuntimeError: locked"),
    ],
)
def test_a_directory_that_cannot_be_written_to_is_named(
    error: Exception, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> Any:
        raise error

    monkeypatch.setitem(loggers._KINDS, "mlflow", refused)
    with (
        pytest.raises(OutputError, match=re.escape(f"cannot write the log to '{tmp_path}/a' ({reason}); expected")),
        opened_logger(f"mlflow:{tmp_path}/a", tmp_path, "compare", {}),
    ):
        pass


def test_without_a_logger_nothing_is_written(tmp_path: Path) -> None:
    with opened_logger(None, tmp_path, "compare", {}) as logger:
        log_result(logger, "bench", former("bench")["results"], [TABLE], [])
    assert logger is NO_LOGGER
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(params=KINDS)
def written(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path, dict]:
    """A comparison and two epochs as a library keeps them, the directory, and the results."""
    pytest.importorskip(request.param)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "true")
    results = fidelity()["results"] | {"start": {"d": 0.2}, "best_epoch": 1, "best_reason": "lowest d"}
    out = tmp_path / "compare"
    out.mkdir()
    (out / "result.json").write_text("{}")
    with opened_logger(request.param, out, "compare", {"MODEL": {"path": "a.pt"}, "--imgsz": 64}) as logger:
        log_epochs(logger, [{"epoch": 0, "d": 0.2}, {"epoch": 1, "d": 0.1}])
        log_result(logger, "compare", results, [TABLE], [out / "result.json"])
    return request.param, out / request.param, results


@pytest.mark.filterwarnings("default")
def test_what_a_library_wrote_is_read_back(written) -> None:
    kind, directory, results = written
    found = {"tensorboard": _of_tensorboard, "mlflow": _of_mlflow, "wandb": _of_wandb}[kind](directory)
    assert found["methods/max/d"] == pytest.approx(results["methods"][0]["d"])
    assert found["epochs/d"] == pytest.approx([0.2, 0.1])
    assert {"plots", "tables", "result.json"} <= set(found["files"])


def _of_tensorboard(directory: Path) -> dict[str, Any]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory / "compare")).Reload()
    tags = events.Tags()
    texts = {tag.split("/")[0] for tag in tags["tensors"]} | {
        tag.split("/")[1] for tag in tags["tensors"] if "/" in tag
    }
    return {
        "methods/max/d": events.Scalars("methods/max/d")[0].value,
        "epochs/d": [event.value for event in events.Scalars("epochs/d")],
        "files": {*texts, *(tag.split("/")[0] for tag in tags["images"])}
        | {"result.json"} & {tag.removeprefix("files/").removesuffix("/text_summary") for tag in tags["tensors"]},
    }


def _of_mlflow(directory: Path) -> dict[str, Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{directory / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("yoloqat").experiment_id])
    assert (run.info.run_name, run.info.status, run.data.params["--imgsz"]) == ("compare", "FINISHED", "64")
    return {
        "methods/max/d": run.data.metrics["methods/max/d"],
        "epochs/d": [entry.value for entry in client.get_metric_history(run.info.run_id, "epochs/d")],
        "files": {entry.path for entry in client.list_artifacts(run.info.run_id)},
    }


def _of_wandb(directory: Path) -> dict[str, Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    (place,) = directory.glob("wandb/offline-run-*")
    summary: dict[str, float] = {}
    points = []
    for data in _log_records(next(place.glob("*.wandb")).read_bytes()):
        record = Record.FromString(data)
        for item in record.summary.update:
            summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        points += [item for item in record.history.item if "epochs/d" in (item.key, "/".join(item.nested_key))]
    media = {path.name for path in (place / "files" / "media").glob("*")}
    kept = {path.name for path in (place / "files").glob("*")}
    files = kept | ({"plots"} if "images" in media else set()) | ({"tables"} if "table" in media else set())
    return {
        "methods/max/d": summary["methods/max/d"],
        "epochs/d": [json.loads(item.value_json) for item in points],
        "files": files,
    }


def _log_records(data: bytes, block: int = 32768) -> Iterator[bytes]:
    """Yield the records of a file in LevelDB's log format, behind a header of seven bytes."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""
