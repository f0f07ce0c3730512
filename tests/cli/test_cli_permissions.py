"""Whatever a command writes is as readable as any other new file of the user's."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_detector import TinyData

Cli = Callable[..., Any]


@pytest.mark.slow
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002], ids="umask {:03o}".format)
def test_every_file_has_the_permissions_of_a_new_one(
    cli: Cli, tiny_model: Path, tiny_data: TinyData, labelled: Path, tmp_path: Path, mask: int
) -> None:
    out, data = tmp_path / "runs", ("--data", tiny_data.yaml)
    few = (*data, "--calib-images", 2)
    checkpoint, onnx = out / "calibrate" / "model.safetensors", out / "export" / "model.onnx"
    lines: tuple[tuple[object, ...], ...] = (
        ("inspect", tiny_model, "--imgsz", 64),
        ("eval", tiny_model, *data),
        ("compare", tiny_model, *few, "--methods", "max"),
        ("calibrate", tiny_model, *few, "--no-eval", "--method", "max", "--curve", "1,2"),
        ("sensitivity", checkpoint, *data, "--batch", 5, "--granularity", "block"),
        ("finetune", checkpoint, "--data", labelled, "--epochs", 1, "--supervise", 3, "--batch", 5),
        ("export", checkpoint),
        ("lint", onnx, "--sarif", out / "lint" / "found.sarif"),
        ("build", onnx, "--triton", out / "triton", "--deepstream", out / "deepstream"),
        ("bench", tiny_model, "--rounds", 1, "--cache-dir", out / "cache"),
    )
    former = os.umask(mask)
    try:
        codes = [cli(*line, out=out / str(line[0])).code for line in lines]
    finally:
        os.umask(former)
    assert codes == [0] * len(lines)
    written = [path for path in out.rglob("*") if not path.is_symlink()]
    assert len(written) > 30
    wrong = {
        str(path.relative_to(out)): oct(found)
        for path in written
        if (found := stat.S_IMODE(path.stat().st_mode)) != (0o777 if path.is_dir() else 0o666) & ~mask
    }
    assert wrong == {}
