from __future__ import annotations

import json
import subprocess
import sys

import onnx
import pytest
from stand_in import make_tensorrt

from yoloqat.engines.tensorrt import Span, TensorRTOptions, build_tensorrt, read_engine
from yoloqat.errors import ConfigError, DependencyError, EngineError, ModelError, OutputError

ALL = {"convolutions", "profile", "quantized_layers", "schema", "source_sha256", "tensorrt", "version_compatible"}


def test_quantized_convolutions_run_in_integers(trt, qdq_path, tmp_path):
    build = build_tensorrt(qdq_path, tmp_path / "model.engine", tensorrt=trt)
    precision = build.layers.precision
    assert {layer.name for layer in precision.int8_convolutions} == {"first", "second"}
    assert (precision.int8_mac_share, precision.int8_mac_share_all) == (1.0, 1.0)
    assert precision.convolutions[0].macs == 16 * 16 * 32 * 3 * 9
    assert build.layers.reformats == ("Reformatting CopyNode for Input Tensor 0 to first",)
    assert (build.version, build.warnings) == (trt.__version__, ("a warning of the builder",))


def test_float_file_has_no_integers(trt, float_path, tmp_path):
    precision = build_tensorrt(float_path, tmp_path / "model.engine", tensorrt=trt).layers.precision
    assert [layer.precision for layer in precision.convolutions] == ["f16", "f16"]
    assert precision.int8_mac_share is None


def test_engine_file_tells_what_it_detects(trt, qdq_path, tmp_path):
    build_tensorrt(qdq_path, tmp_path / "model.engine", tensorrt=trt)
    data = (tmp_path / "model.engine").read_bytes()
    header = json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")])
    assert header["names"] == {"0": "cat", "1": "dog"}
    assert header["args"] == {"dynamic": False}
    assert set(header["yoloqat"]) == ALL
    file = read_engine(tmp_path / "model.engine")
    assert file.plan.startswith(b"plan")
    assert (file.info.names, file.info.imgsz, file.info.batch) == ({0: "cat", 1: "dog"}, (16, 16), 1)


def test_settings_reach_the_builder(trt, world, qdq_path, tmp_path):
    options = TensorRTOptions(
        workspace_gib=0.5, optimization_level=5, version_compatible=True, hardware_compatible=True, dla=1
    )
    world.dla_cores = 2
    build_tensorrt(qdq_path, tmp_path / "model.engine", options, tensorrt=trt)
    config = world.seen.config._state
    assert config["pools"] == {"WORKSPACE": 2**29}
    assert config["flags"] == {"VERSION_COMPATIBLE", "GPU_FALLBACK"}
    assert (config["builder_optimization_level"], config["DLA_core"]) == (5, 1)
    assert config["hardware_compatibility_level"] == trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert config["default_device_type"] == trt.DeviceType.DLA
    assert read_engine(tmp_path / "model.engine").metadata["dla"] == 1


def test_open_batch_gets_a_profile(trt, world, tiny, tmp_path):
    onnx.save(tiny(batch="n"), tmp_path / "open.onnx")
    options = TensorRTOptions(batch=Span(1, 2, 4))
    build = build_tensorrt(tmp_path / "open.onnx", tmp_path / "model.engine", options, tensorrt=trt)
    assert world.seen.config._state["profiles"] == [{"images": [[1, 3, 16, 16], [2, 3, 16, 16], [4, 3, 16, 16]]}]
    assert build.profile.dynamic
    assert build.layers.precision.convolutions[0].macs == 2 * 16 * 16 * 32 * 3 * 9
    assert len(build.layers.precision.int8_convolutions) == 2  # an inspector without a shape would not tell
    assert read_engine(tmp_path / "model.engine").info.batch is None


def test_open_batch_without_a_span(trt, tiny, tmp_path):
    onnx.save(tiny(batch="n"), tmp_path / "open.onnx")
    with pytest.raises(ConfigError, match=r"open\.onnx' leaves the batch open .*\(batch is None\)"):
        build_tensorrt(tmp_path / "open.onnx", tmp_path / "model.engine", tensorrt=trt)


def test_profile_that_tensorrt_refuses(trt, world, tiny, tmp_path):
    world.profile_fits = False
    onnx.save(tiny(batch="n"), tmp_path / "open.onnx")
    options = TensorRTOptions(batch=Span(1, 2, 4))
    with pytest.raises(EngineError, match=r"refuses the profile \(1, 3, 16, 16\) to \(4, 3, 16, 16\) of 'images'"):
        build_tensorrt(tmp_path / "open.onnx", tmp_path / "model.engine", options, tensorrt=trt)


def test_timing_cache_is_kept_and_used(trt, world, qdq_path, tmp_path):
    cache = tmp_path / "timing.cache"
    options = TensorRTOptions(timing_cache=cache)
    found = [
        build_tensorrt(qdq_path, tmp_path / "model.engine", options, tensorrt=trt).from_timing_cache for _ in range(2)
    ]
    assert found == [False, True]
    assert cache.read_bytes() == b"timings of this build"
    world.cache_fits = False
    assert not build_tensorrt(qdq_path, tmp_path / "model.engine", options, tensorrt=trt).from_timing_cache
    cache.write_bytes(b"something else")
    assert not build_tensorrt(qdq_path, tmp_path / "model.engine", options, tensorrt=trt).from_timing_cache
    assert cache.read_bytes() == b"timings of this build"


def test_timing_cache_that_cannot_be_read(trt, qdq_path, tmp_path, monkeypatch):
    cache = tmp_path / "timing.cache"
    cache.write_bytes(b"timings")
    read = type(cache).read_bytes

    def refuse(path):
        if path == cache:
            raise PermissionError(13, "no")
        return read(path)

    monkeypatch.setattr(type(cache), "read_bytes", refuse)
    with pytest.raises(EngineError, match=r"cannot read the timing cache '.*timing\.cache' \(no\)"):
        build_tensorrt(qdq_path, tmp_path / "a.engine", TensorRTOptions(timing_cache=cache), tensorrt=trt)


def test_parser_errors_name_their_nodes(trt, world, qdq_path, tmp_path):
    world.parse_errors = [
        ("model.9.m", "MaxPool", "no such mode", 7),
        ("", "Gelu", "no importer", 3),
        ("", "", "x", -1),
    ]
    with pytest.raises(
        ModelError,
        match=r"cannot parse '.*model\.onnx' \(node 'model\.9\.m' \(MaxPool\): no such mode; "
        r"node 'number 3' \(Gelu\): no importer; x\)",
    ):
        build_tensorrt(qdq_path, tmp_path / "model.engine", tensorrt=trt)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("Could not find any implementation for node first", "raise workspace_gib"),
        ("Requested amount of GPU memory could not be allocated: out of memory", "free memory on the GPU"),
        ("an unheard-of failure", "run the trtexec line with --verbose"),
    ],
)
def test_no_engine_is_explained(trt, world, qdq_path, tmp_path, line, hint):
    world.build_errors = [line]
    with pytest.raises(EngineError, match=rf"TensorRT {trt.__version__} built no engine \({line}\).*{hint}"):
        build_tensorrt(qdq_path, tmp_path / "model.engine", tensorrt=trt)
    assert not list(tmp_path.iterdir())


def test_no_gpu(trt, world, qdq_path, tmp_path):
    world.gpu = False
    with pytest.raises(EngineError, match=r"builder does not start .CUDA initialization failure with error: 100"):
        build_tensorrt(qdq_path, tmp_path / "model.engine", tensorrt=trt)


def test_no_accelerator(trt, qdq_path, tmp_path):
    with pytest.raises(EngineError, match="dla is 0, this device has 0 deep learning accelerators"):
        build_tensorrt(qdq_path, tmp_path / "model.engine", TensorRTOptions(dla=0), tensorrt=trt)


def test_place_that_cannot_be_written(trt, qdq_path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write '.*file/model\.engine'"):
        build_tensorrt(qdq_path, tmp_path / "file" / "model.engine", tensorrt=trt)


def test_progress_follows_the_outer_phase(trt, qdq_path, tmp_path):
    told = []
    build_tensorrt(qdq_path, tmp_path / "model.engine", tensorrt=trt, progress=lambda *step: told.append(step))
    assert told == [("TensorRT: Building Engine", done, 2) for done in (0, 1, 2)]


def test_an_interrupt_stops_the_build(trt, qdq_path, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_tensorrt(qdq_path, tmp_path / "model.engine", tensorrt=trt, progress=interrupted)
    assert not list(tmp_path.iterdir())


def test_without_tensorrt(qdq_path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(DependencyError, match=r"TensorRT cannot be imported .*pip install tensorrt-cu13"):
        build_tensorrt(qdq_path, tmp_path / "model.engine")


def test_building_needs_no_torch():
    code = "import sys, yoloqat.engines.tensorrt; print(sorted({'torch', 'ultralytics', 'tensorrt', 'cuda'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_version_compatible_engine_runs_on_the_next_major(world, qdq_path, tmp_path):
    from yoloqat.engines.tensorrt import TensorRTPredictor

    older, newer = make_tensorrt(10, world), make_tensorrt(11, world)
    build_tensorrt(qdq_path, tmp_path / "a.engine", tensorrt=older)
    with pytest.raises(EngineError, match=r"TensorRT 11\.4\.0\.106 cannot load the engine .*not compatible"):
        TensorRTPredictor(tmp_path / "a.engine", tensorrt=newer, cuda=world.cuda)
    build_tensorrt(qdq_path, tmp_path / "b.engine", TensorRTOptions(version_compatible=True), tensorrt=older)
    assert TensorRTPredictor(tmp_path / "b.engine", tensorrt=newer, cuda=world.cuda).info.batch == 1
