"""ONNX Runtime is imported so that it sends nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("before", [None, "0"])
def test_an_import_keeps_no_identifier_and_leaves_the_environment(tmp_path: Path, before: str | None) -> None:
    script = (
        "import os\n"
        "before = dict(os.environ)\n"
        "from yoloqat.engines.ort_import import import_onnxruntime\n"
        "import_onnxruntime().SessionOptions()\n"
        "print(before == dict(os.environ))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    if before is not None:
        environment["ORT_DISABLE_TELEMETRY"] = before
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
