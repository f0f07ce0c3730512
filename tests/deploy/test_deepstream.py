from __future__ import annotations

import configparser
import ctypes
import shutil
import subprocess
from importlib import resources

import numpy as np
import pytest

from yoloqat.deploy import describe, write_deepstream
from yoloqat.deploy.deepstream import FUNCTION, LIBRARY, PARSER, deepstream_config
from yoloqat.errors import ConfigError

HEADER = """
#pragma once
#include <vector>
typedef struct { unsigned int numDims; unsigned int d[8]; unsigned int numElements; } NvDsInferDims;
typedef enum { FLOAT = 0, HALF = 1, INT8 = 2, INT32 = 3 } NvDsInferDataType;
typedef struct {
  NvDsInferDataType dataType;
  union { NvDsInferDims inferDims; NvDsInferDims dims; };
  int bindingIndex; const char *layerName; void *buffer; int isInput;
} NvDsInferLayerInfo;
typedef struct { unsigned int width; unsigned int height; unsigned int channels; } NvDsInferNetworkInfo;
typedef struct {
  unsigned int classId; float left; float top; float width; float height; float detectionConfidence;
} NvDsInferObjectDetectionInfo;
typedef NvDsInferObjectDetectionInfo NvDsInferParseObjectInfo;
typedef struct {
  unsigned int numClassesConfigured;
  std::vector<float> perClassPreclusterThreshold;
  std::vector<float> perClassPostclusterThreshold;
} NvDsInferParseDetectionParams;
typedef bool (*NvDsInferParseCustomFunc)(std::vector<NvDsInferLayerInfo> const &, NvDsInferNetworkInfo const &,
                                         NvDsInferParseDetectionParams const &,
                                         std::vector<NvDsInferObjectDetectionInfo> &);
#define CHECK_CUSTOM_PARSE_FUNC_PROTOTYPE(customParseFunc) \\
  static void checkFunc_ ## customParseFunc(NvDsInferParseCustomFunc func = customParseFunc) \\
    { checkFunc_ ## customParseFunc(); }; \\
  extern "C" bool customParseFunc(std::vector<NvDsInferLayerInfo> const &, NvDsInferNetworkInfo const &, \\
                                  NvDsInferParseDetectionParams const &, \\
                                  std::vector<NvDsInferObjectDetectionInfo> &);
"""
CALLER = """
#include "nvdsparse_yoloqat.cpp"
extern "C" int call(float *raw, unsigned channels, unsigned anchors, unsigned classes, float conf, int batch,
                    float *rows) {
  NvDsInferLayerInfo masks{}, boxes{};
  masks.layerName = "output1"; masks.buffer = raw; masks.inferDims.numDims = 3;
  boxes.layerName = "output0"; boxes.buffer = raw; boxes.inferDims.numDims = 2 + batch;
  boxes.inferDims.d[batch] = channels; boxes.inferDims.d[batch + 1] = anchors;
  NvDsInferParseDetectionParams params{classes, std::vector<float>(classes, conf), {}};
  std::vector<NvDsInferParseObjectInfo> found;
  if (!NvDsInferParseYoloqat({masks, boxes}, {32, 32, 3}, params, found)) return -1;
  for (unsigned i = 0; i < found.size(); ++i) {
    const float row[6] = {found[i].left, found[i].top, found[i].width, found[i].height,
                          found[i].detectionConfidence, static_cast<float>(found[i].classId)};
    std::copy(row, row + 6, rows + 6 * i);
  }
  return static_cast<int>(found.size());
}
"""


def read(text: str) -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read_string(text)
    return config


def test_every_property_is_the_artefacts(make_onnx):
    source = make_onnx(batch=2)
    config = read(deepstream_config(describe(source, source), conf=0.3, nms_iou=0.5, top_k=100))
    found = config["property"]
    assert found["onnx-file"] == "model.onnx"
    assert "model-engine-file" not in found
    assert (found["batch-size"], found["infer-dims"], found["num-detected-classes"]) == ("2", "3;32;32", "3")
    assert float(found["net-scale-factor"]) == pytest.approx(1 / 255, rel=1e-12)
    assert (found["model-color-format"], found["network-type"], found["cluster-mode"]) == ("0", "0", "2")
    assert (found["maintain-aspect-ratio"], found["symmetric-padding"]) == ("1", "1")
    assert (found["parse-bbox-func-name"], found["custom-lib-path"]) == (FUNCTION, LIBRARY)
    assert dict(config["class-attrs-all"]) == {
        "pre-cluster-threshold": "0.3",
        "nms-iou-threshold": "0.5",
        "topk": "100",
    }


def test_directory(make_onnx, engine, tmp_path):
    config = write_deepstream(describe(engine, make_onnx()), tmp_path / "ds")
    directory = config.parent
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        ["config_infer_primary.txt", "labels.txt", "model.plan", PARSER]
    )
    assert read(config.read_text())["property"]["model-engine-file"] == "model.plan"
    assert (directory / "model.plan").read_bytes() == b"the plan"
    # a semicolon would end the label
    assert (directory / "labels.txt").read_text().splitlines() == ["cat", 'a "dog", big', "bird"]


def test_what_deepstream_cannot_run(make_onnx, tmp_path):
    source = make_onnx()
    directory = tmp_path / "model_openvino"
    directory.mkdir()
    (directory / "model.xml").write_text("")
    with pytest.raises(ConfigError, match="model_openvino' is for OpenVINO"):
        deepstream_config(describe(directory, source))
    source = make_onnx(end2end=True)
    with pytest.raises(ConfigError, match=r"model\.onnx' suppresses overlapping boxes by itself"):
        deepstream_config(describe(source, source))
    source = make_onnx(side="side")
    with pytest.raises(ConfigError, match=r"model\.onnx' takes images of any size"):
        deepstream_config(describe(source, source))


@pytest.mark.parametrize("name", ["conf", "nms_iou"])
def test_shares_out_of_range(make_onnx, name):
    source = make_onnx()
    with pytest.raises(ConfigError, match=f"{name} is 1.5"):
        deepstream_config(describe(source, source), **{name: 1.5})


@pytest.fixture(scope="module")
def parser(tmp_path_factory):
    """The box parser, compiled against DeepStream's structures as its documentation gives them."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("parser")
    (folder / "nvdsinfer_custom_impl.h").write_text(HEADER)
    (folder / PARSER).write_bytes((resources.files("yoloqat.deploy") / PARSER).read_bytes())
    (folder / "caller.cpp").write_text(CALLER)
    command = ["g++", "-O1", "-Wall", "-Wextra", "-Wno-unused-function", "-Wno-infinite-recursion", "-shared", "-fPIC"]
    subprocess.run([*command, "caller.cpp", "-o", "lib.so"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "lib.so")).call


def parsed(parser, raw: np.ndarray, *, classes: int, conf: float, batch: int = 0) -> np.ndarray | None:
    raw = np.ascontiguousarray(raw, dtype=np.float32)
    rows = np.zeros((raw.shape[1], 6), dtype=np.float32)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (raw, rows)]
    count = parser(pointers[0], *raw.shape, classes, ctypes.c_float(conf), batch, pointers[1])
    return None if count < 0 else rows[:count]


@pytest.mark.parametrize("batch", [0, 1])
def test_parser_gives_the_boxes_of_the_raw_output(parser, batch):
    rng = np.random.default_rng(0)
    raw = np.concatenate([rng.uniform(4, 28, (4, 50)), rng.uniform(0, 1, (3, 50)), rng.normal(0, 9, (5, 50))])
    found = parsed(parser, raw, classes=3, conf=0.8, batch=batch)
    best, score = raw[4:7].argmax(0), raw[4:7].max(0)
    corners = np.concatenate([raw[:2] - raw[2:4] / 2, raw[:2] + raw[2:4] / 2]).clip(0, 32)
    wanted = np.column_stack([*corners[:2], *(corners[2:] - corners[:2]), score, best])[score >= 0.8]
    assert 5 < len(found) < 50
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_parser_drops_empty_boxes_and_refuses_too_few_channels(parser):
    outside = np.array([[50.0, 50, 4, 4, 0.9, 0, 0], [8, 8, 4, 4, 0.9, 0, 0], [8, 8, 4, 4, np.nan, 0, 0]]).T
    assert parsed(parser, outside, classes=3, conf=0.5)[:, :4].tolist() == [[6, 6, 4, 4]]
    assert parsed(parser, np.zeros((6, 5)), classes=3, conf=0.5) is None


@pytest.mark.parametrize(("channels", "colour"), [(1, 2), (3, 0)])
def test_grey_and_colour_models_are_told_apart(make_onnx, channels, colour):
    source = make_onnx(channels=channels)
    text = deepstream_config(describe(source, source))
    assert f"model-color-format={colour}\n" in text
    assert f"infer-dims={channels};32;32\n" in text


def test_a_model_of_four_channels_is_refused(make_onnx):
    source = make_onnx(channels=4)
    with pytest.raises(ConfigError, match=f"'{source}' takes images of 4 channels; expected RGB or grey images"):
        deepstream_config(describe(source, source))
