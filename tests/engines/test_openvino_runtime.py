from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yoloqat.engines import OpenVINOPredictor, build_openvino
from yoloqat.errors import ConfigError, EngineError


@pytest.fixture(scope="module")
def built(qdq_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("runtime") / "model_openvino"
    build_openvino(qdq_path, out)
    return out


def files(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_nothing_is_cached_unless_asked(built):
    before = files(built)
    assert not OpenVINOPredictor(built).loaded_from_cache
    assert files(built) == before


def test_second_start_takes_the_compiled_model(built, tmp_path, images):
    cache = tmp_path / "a" / "cache"
    first, second = (OpenVINOPredictor(built, cache_dir=cache) for _ in range(2))
    assert (first.loaded_from_cache, second.loaded_from_cache) == (False, True)
    np.testing.assert_array_equal(first(images)[0], second(images)[0])
    assert first.precision == second.precision


def test_a_cached_model_runs_with_the_settings_of_its_user(built, tmp_path):
    alone = OpenVINOPredictor(built, threads=2, hint="throughput").requests
    OpenVINOPredictor(built, cache_dir=tmp_path)
    assert OpenVINOPredictor(built, threads=2, cache_dir=tmp_path, hint="throughput").requests == alone


@pytest.mark.parametrize("length", [0, 100])
def test_a_damaged_cache_is_made_again(built, tmp_path, images, length):
    wanted = OpenVINOPredictor(built, cache_dir=tmp_path)(images)[0]
    (blob,) = tmp_path.glob("*.blob")
    whole = blob.read_bytes()
    blob.write_bytes(whole[:length])
    again = OpenVINOPredictor(built, cache_dir=tmp_path)
    assert not again.loaded_from_cache
    np.testing.assert_array_equal(again(images)[0], wanted)
    assert len(blob.read_bytes()) == len(whole)


def test_a_cache_that_cannot_be_made(built, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"cannot make the cache '.*file/cache'"):
        OpenVINOPredictor(built, cache_dir=tmp_path / "file" / "cache")


@pytest.mark.parametrize("hint", ["latency", "throughput"])
@pytest.mark.parametrize("calls", [1, 5])
def test_stream_times_every_call(built, images, hint, calls):
    predictor = OpenVINOPredictor(built, hint=hint, threads=2)
    seconds = predictor.stream(images, calls)
    assert len(seconds) == calls
    assert all(0 < value < 10 for value in seconds)
    np.testing.assert_allclose(predictor(images)[0], OpenVINOPredictor(built)(images)[0], atol=1e-4)


def test_throughput_holds_more_requests(built):
    assert OpenVINOPredictor(built, threads=2).requests == 1
    assert OpenVINOPredictor(built, threads=2, hint="throughput").requests >= 1


def test_stream_out_of_range(built, images):
    predictor = OpenVINOPredictor(built)
    with pytest.raises(ConfigError, match="calls is 0"):
        predictor.stream(images, 0)
    with pytest.raises(EngineError, match=r"images have the shape \(2, 3, 16, 16\)"):
        predictor.stream(np.concatenate([images, images]), 1)


def test_shape_that_openvino_refuses_is_told(qdq_path):
    predictor = OpenVINOPredictor(qdq_path)
    predictor._info = replace(predictor.info, imgsz=None)  # as of metadata that do not tell the size
    small = np.zeros((1, 3, 8, 8), np.float32)
    with pytest.raises(EngineError, match=r"OpenVINO cannot run the model on images of shape \(1, 3, 8, 8\)"):
        predictor(small)
    with pytest.raises(EngineError, match=r"OpenVINO cannot run the model on images of shape \(1, 3, 8, 8\)"):
        predictor.stream(small, 1)
