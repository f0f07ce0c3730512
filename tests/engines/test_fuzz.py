from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import yoloqat

HERE = Path(__file__).parent


@pytest.mark.parametrize(("kind", "cases", "at_least"), [("onnx", 1, 25), ("openvino", 1, 35), ("engine", 60, 150)])
def test_damaged_files_end_in_one_line(kind, cases, at_least, tmp_path):
    """Neither a crash nor a hang nor any error but yoloqat's own comes out of a damaged file, whoever reads it."""
    paths = os.pathsep.join([str(Path(yoloqat.__file__).parents[1]), str(HERE), str(HERE.parent)])
    ran = subprocess.run(
        [sys.executable, HERE / "fuzz_entries.py", kind, str(cases), tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"PYTHONPATH": paths},
    )
    lines = ran.stdout.splitlines()
    assert ran.returncode == 0, (lines[-1:], ran.stderr[-2000:])
    assert [line for line in lines if not line.endswith(" | ")] == []
    assert len(lines) >= at_least
