"""Fixtures that every test may use."""

from __future__ import annotations

import copy
import functools
import gc
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_detector import NAMES, TinyData, make_data, make_module, save_module
from torch.export import decomp_utils, exported_program
from torch.onnx._internal.exporter._registration import ONNXRegistry
from traced_once import never_known, shared_traces

from yoloqat.cli import main
from yoloqat.detectors import torch_threads
from yoloqat.engines import openvino_files, openvino_import


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate-golden", action="store_true", help="write golden files anew instead of comparing")


def pytest_configure(config: pytest.Config) -> None:
    """Look for no garbage while half a million objects of imported modules are made, which live to the end."""
    gc.disable()
    # compiled once for all worker processes and all that they start, also where the environment says otherwise
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave them out of every later garbage collection, of which fewer are a tenth of the time of traces and exports."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a file's tests to one worker, which then makes the file's fixtures alone, unless `--dist` says otherwise."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let them be freed, as some libraries check at the end."""
    gc.unfreeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def operators_listed_once() -> Iterator[None]:
    """List the operators that torch.export may keep whole once: every export walks over all, half a tiny module's time."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (exported_program, "_collect_all_valid_cia_ops"),
            (decomp_utils, "_collect_all_valid_cia_ops"),
            (decomp_utils, "_collect_all_valid_cia_ops_for_aten_namespace"),
        ):
            patch.setattr(module, name, functools.cache(getattr(module, name)))
        yield


@pytest.fixture(scope="session", autouse=True)
def translations_read_once() -> Iterator[None]:
    """Read torch's translations to ONNX once: every export reads their sources anew, a third of a small model's time."""
    read = functools.cache(ONNXRegistry.from_torchlib)

    def from_torchlib(**options: Any) -> ONNXRegistry:
        registry = copy.copy(read(**options))
        registry.functions = {target: list(known) for target, known in registry.functions.items()}
        return registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(from_torchlib))
        yield


@pytest.fixture(scope="session", autouse=True)
def files_tried_once() -> Iterator[None]:
    """Let OpenVINO's reader try each file once in a process of its own, which takes longer to start than to read it."""
    tried, known = openvino_files._try_reading, set[tuple[str, bytes]]()

    def once(source: str, data: str | bytes) -> None:
        paths = [] if isinstance(data, bytes) else [Path(data), Path(data).with_suffix(".bin")]
        content = data if isinstance(data, bytes) else b"".join(path.read_bytes() for path in paths if path.is_file())
        key = (openvino_import.__file__, hashlib.sha256(content).digest())
        if key not in known:
            tried(source, data)
            known.add(key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openvino_files, "_try_reading", once)
        yield


@pytest.fixture(scope="session", autouse=True)
def traces() -> Iterator[None]:
    """Trace a module once per state of it."""
    with shared_traces():
        yield


@pytest.fixture
def traced_anew() -> Iterator[None]:
    """Every trace is made, for a test that a second one is like the first."""
    with never_known():
        yield


@pytest.fixture(scope="session")
def real_dir() -> Path:
    """The directory with official weights and COCO images; the test is skipped where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "real"
    path = Path(os.environ.get("YOLOQAT_REAL", default))
    if not (path / "coco" / "coco_val.yaml").is_file():
        pytest.skip(f"no real weights and images at {path}; set YOLOQAT_REAL to their directory")
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float detector of three classes as Ultralytics would save it."""
    with torch_threads(1):
        return save_module(make_module(), tmp_path_factory.mktemp("model") / "tiny.pt")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> TinyData:
    """A data set whose labels are what the tiny detector finds; not to be changed by a test."""
    with torch_threads(1):
        return make_data(tmp_path_factory.mktemp("data") / "set", tiny_model)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_data: TinyData) -> Path:
    """The tiny detector calibrated to 8 bits."""
    out = tmp_path_factory.mktemp("calibrated")
    arguments = ["--no-eval", "--calib-images-dir", str(tiny_data.train), "--calib-images", "4", "--threads", "1"]
    assert main(["calibrate", str(tiny_model), *arguments, "--out", str(out)]) == 0
    return out / "model.safetensors"


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """The calibrated tiny detector as a QDQ ONNX file for one image."""
    out = tmp_path_factory.mktemp("exported")
    assert main(["export", str(tiny_checkpoint), "--threads", "1", "--out", str(out)]) == 0
    return out / "model.onnx"


@pytest.fixture(scope="session")
def tiny_engine(tmp_path_factory: pytest.TempPathFactory, tiny_onnx: Path) -> Path:
    """The exported tiny detector as an OpenVINO directory."""
    out = tmp_path_factory.mktemp("built")
    assert main(["build", str(tiny_onnx), "--threads", "1", "--out", str(out)]) == 0
    return out / "model_openvino"


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory, tiny_data: TinyData) -> Path:
    """A data set whose training split has labels: the validation images."""
    path = tmp_path_factory.mktemp("labelled") / "data.yaml"
    images = str(tiny_data.images)
    path.write_text(yaml.safe_dump({"train": images, "val": images, "names": NAMES}))
    return path
