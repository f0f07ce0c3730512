"""The real bindings of both majors, imported over empty libraries.

pip download --no-deps -d WHEELS tensorrt-cu12-bindings==10.16.1.11 tensorrt-cu13-bindings==11.4.0.106
YOLOQAT_TRT_WHEELS=WHEELS pytest tests/engines/trt/test_tensorrt_wheels.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from empty_libraries import compile_empty, unpack

WHEELS = os.environ.get("YOLOQAT_TRT_WHEELS")
TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
FOUND = sorted(Path(WHEELS).glob(f"tensorrt_*bindings-*-{TAG}-*.whl")) if WHEELS else []

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOUND, reason=f"YOLOQAT_TRT_WHEELS names no directory with tensorrt bindings for {TAG}"),
    pytest.mark.skipif(not all(map(shutil.which, ("gcc", "nm", "readelf"))), reason="no gcc, nm and readelf"),
]


@pytest.mark.parametrize("wheel", FOUND, ids=lambda wheel: wheel.name.split("-")[1])
def test_real_bindings_are_what_the_stand_in_plays(wheel, tmp_path):
    site = unpack(wheel, tmp_path)
    libraries = compile_empty(site / "tensorrt" / "tensorrt.so", tmp_path / "libraries")
    here = Path(__file__).parent
    paths = [str(site), str(here), str(here.parents[2])]
    environment = os.environ | {"LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, str(here / "wheel_checks.py"), str(site)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["version"] == wheel.name.split("-")[1]
    assert len(found["checks"]) == 9
