"""Every entry that reads a file, tried on damaged ones: only errors that yoloqat tells may come out.

Run as a script, because a crash would end the tests: ``fuzz_entries.py KIND CASES DIRECTORY`` prints each case before it is
tried, and what escaped behind it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import broken_files
import broken_onnx
import numpy as np
from conftest import build

from yoloqat.deploy import describe
from yoloqat.deploy.artifact import plan_bytes
from yoloqat.engines import OnnxPredictor, OpenVINOPredictor, build_onnxruntime, build_openvino
from yoloqat.engines.tensorrt.build import plan_tensorrt
from yoloqat.engines.tensorrt.convolutions import convolution_macs
from yoloqat.engines.tensorrt.header import engine_metadata, read_engine
from yoloqat.engines.tensorrt.options import TensorRTOptions
from yoloqat.errors import YoloqatError
from yoloqat.linting import lint_file
from yoloqat.predictor import Predictor

Entry = Callable[[Path], object]
SIDE = 16


def run(predictor: Predictor) -> None:
    height, width = predictor.info.imgsz or (SIDE, SIDE)
    if height * width < 1 << 20:
        predictor(np.full((predictor.info.batch or 1, 3, height, width), 0.5, np.float32))


def plan(path: Path) -> None:
    planned = plan_tensorrt(path, path.with_suffix(".engine"), TensorRTOptions())
    convolution_macs(planned.source, planned.profile.name, planned.profile.usual)


def twin(path: Path) -> None:
    build_onnxruntime(path, path.with_suffix(".twin"), [np.full((1, 3, SIDE, SIDE), 0.5, np.float32)])


ONNX: tuple[Entry, ...] = (
    lint_file,
    lambda path: describe(path, path),
    plan,
    twin,
    lambda path: run(OnnxPredictor(path)),
    lambda path: run(OpenVINOPredictor(path)),
    lambda path: build_openvino(path, path.with_suffix("")),
)


def escapes(path: Path, entries: tuple[Entry, ...]) -> Iterator[str]:
    for index, entry in enumerate(entries):
        try:
            entry(path)
        except YoloqatError as error:
            if "\n" in str(error):
                yield f"entry {index}: more than a line: {error}"
        except Exception as error:
            yield f"entry {index}: {type(error).__name__}: {error}"


def tell(name: str, path: Path, entries: tuple[Entry, ...]) -> None:
    sys.stdout.write(f"{name} | ")
    sys.stdout.flush()
    sys.stdout.write(" | ".join(escapes(path, entries)) + "\n")


def onnx_files(cases: int, directory: Path) -> None:
    path = directory / "model.onnx"
    for name, data in broken_onnx.broken_models(build, each=cases):
        path.write_bytes(data)
        tell(name, path, ONNX)


def openvino_directories(cases: int, directory: Path) -> None:
    good, path = directory / "good", directory / "damaged_openvino_model"
    (directory / "good.onnx").write_bytes(build().SerializeToString())
    build_openvino(directory / "good.onnx", good)
    own = {file.name: file.read_bytes() for file in good.iterdir()}
    foreign = {name: data for name, data in own.items() if name != "metadata.json"}
    for kind, files in (("own", own), ("foreign", foreign)):
        for name, broken in broken_files.broken_directories(files, each=cases):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            for file, data in broken.items():
                (path / file).write_bytes(data)
            tell(f"{kind} {name}", path, (lambda place: run(OpenVINOPredictor(place)),))


def engines(cases: int, directory: Path) -> None:
    props = {"names": "{0: 'cat', 1: 'dog'}", "stride": "8", "task": "detect", "imgsz": "[16, 16]", "batch": "1"}
    metadata = engine_metadata(props, dynamic=False, dla=0, own={"profile": None}) | {"end2end": False}
    for name, data in broken_files.broken_engines(metadata, each=cases):
        path = directory / "damaged.engine"
        path.write_bytes(data)
        tell(name, path, (lambda place: read_engine(place).own, plan_bytes))


KINDS = {"onnx": onnx_files, "openvino": openvino_directories, "engine": engines}


if __name__ == "__main__":
    KINDS[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))
