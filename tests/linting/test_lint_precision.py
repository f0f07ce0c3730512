from __future__ import annotations

import numpy as np
import onnx
import pytest
from qdq_graphs import Builder

from yoloqat.config.target import TARGET_KEY


def remainder(*, target: str | None = None, dtype: type = np.float32) -> onnx.ModelProto:
    """Return a float convolution between two quantized ones."""
    build = Builder()
    one = build.conv(build.pair("images", "one/input", dtype=dtype), "one", (3, 32))
    island = build.conv(one, "island", (32, 32), quantized=False)
    two = build.conv(build.pair(island, "two/input", dtype=dtype), "two", (32, 32))
    model = build.model(build.predictions(two))
    if target is not None:
        model.metadata_props.add(key=TARGET_KEY, value=target)
    return model


@pytest.mark.parametrize("target", [None, "tensorrt"])
def test_fp32_between_quantized_layers(found, target) -> None:
    (finding,) = found("fp32-remainder", remainder(target=target))
    assert finding.nodes == ("island",)
    assert finding.message == "FP32 runs between quantized layers: 'island'"


def test_fp16_there_and_files_for_engines_without_fp16_are_right(found) -> None:
    assert found("fp32-remainder", remainder(dtype=np.float16)) == []
    assert found("fp32-remainder", remainder(target="onnxruntime")) == []


@pytest.mark.parametrize(("channels", "named"), [(32, []), (16, ["concat"])])
def test_parts_of_a_concat_that_fill_no_block(found, channels, named) -> None:
    build = Builder()
    source = build.pair(build.layer("images", "stem", (3, 32)), "source")
    parts = [build.silu(build.conv(source, name, (32, channels)), name) for name in ("one", "two")]
    joined = build.node("Concat", parts, "concat", axis=1)
    model = build.model(build.predictions(build.layer(joined, "behind", (2 * channels, 16))))
    findings = found("concat-channels", model)
    assert [node for finding in findings for node in finding.nodes] == named
    if named:
        assert findings[0].message.endswith("no multiple of 32 channels: 'concat' has a part of 16")
