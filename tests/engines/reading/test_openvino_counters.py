from __future__ import annotations

import csv
import io
import json

import pytest

from yoloqat.engines import build_openvino
from yoloqat.engines.reading import losses, read_reports
from yoloqat.errors import ConfigError, EngineError

HEAD = ("layerName", "execStatus", "layerType", "execType", "realTime (ms)", "cpuTime (ms)")
ROWS = (
    ("images", "Status.NOT_RUN", "Parameter", "unknown_I8", "0.000", "0.000"),
    ("conv/input/QuantizeLinear", "Status.EXECUTED", "Subgraph", "jit_avx512_I8", "0.080", "0.080"),
    ("conv_abcd_acdb_conv", "Status.EXECUTED", "Reorder", "jit_uni_I8", "0.100", "0.100"),
    ("conv/WithoutBiases", "Status.EXECUTED", "Convolution", "brgconv_avx512_I8", "0.240", "0.240"),
    ("head", "EXECUTED", "Convolution", "jit_avx2_FP32", "0.400", "0.400"),
)


def counters(separator=";", runs=1):
    block = [
        "",
        separator.join(HEAD),
        *(separator.join(row) for row in ROWS),
        separator.join(("Total", "", "", "", "1", "1")),
    ]
    return "\n".join(block * runs)


def ordered():
    """Return the report that benchmark_app writes with -pcsort, whose last heading ends within quotes."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*HEAD, "proportion (%)\n"])
    writer.writerows([*row, "10 %"] for row in ROWS)
    writer.writerow(["Total time: 0.82 milliseconds"])
    return text.getvalue()


def detailed(kind="detailed", rows=ROWS):
    keys = ("name", "status", "node_type", "exec_type", "real_time", "cpu_time")
    nodes = [dict(zip(keys, row, strict=True)) for row in rows]
    run = {"nodes": nodes, "total_real_time": "0.82"}
    return json.dumps(
        {
            "report_type": kind,
            **({"detailed_performance": [run, run]} if kind == "detailed" else {"avg_performance": run}),
        }
    )


@pytest.mark.parametrize("text", [counters(), counters(runs=3), ordered(), detailed(), detailed("sorted")])
def test_every_report_of_benchmark_app(text, tmp_path):
    (tmp_path / "report").write_text(text, encoding="utf-8")
    report = read_reports([tmp_path / "report"])
    assert [layer.name for layer in report.layers] == [row[0] for row in ROWS[1:]]
    assert [layer.precision_in for layer in report.layers] == ["i8", "i8", "i8", "f32"]
    assert [layer.ms for layer in report.layers] == pytest.approx([0.08, 0.1, 0.24, 0.4])
    assert [layer.kind for layer in report.layers] == ["quantize", "copy", "compute", "compute"]
    assert report.layers[2].nodes == ("conv",)
    assert report.runtime == "openvino"
    hints = {loss.hint for loss in losses(report.layers, report.runtime)}
    assert hints == {"name the model's folder to see why"}


def test_averages_as_json_hold_one_node(tmp_path):
    (tmp_path / "avg.json").write_text(detailed("average", ROWS[:1]), encoding="utf-8")
    with pytest.raises(
        EngineError, match=r"avg.json' holds one node, 'images': OpenVINO writes no more .*detailed_counters"
    ):
        read_reports([tmp_path / "avg.json"])


def test_a_folder_is_run(qdq_path, tmp_path):
    build_openvino(qdq_path, tmp_path / "engine")
    report = read_reports([tmp_path / "engine"])
    found = {name: layer for layer in report.layers for name in layer.nodes}
    assert found["first"].precision_in in ("u8", "i8")
    assert found["second"].precision_out == "f32"
    assert report.ms is not None
    (tmp_path / "profile.json").write_text('[{"name": "first", "averageMs": 1}]', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"engine' is of openvino, '.*profile.json' of another runtime"):
        read_reports([tmp_path / "engine", tmp_path / "profile.json"])
