"""Whatever a command writes is as readable as any other new file of the user's."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny_detector import TinyData

from yoloqat.detectors import load_checkpoint, save_checkpoint
from yoloqat.engines import build_openvino
from yoloqat.provenance import write_json
from yoloqat.sensitivity.study import Study

Cli = Callable[..., Any]


@contextmanager
def umask(mask: int) -> Iterator[None]:
    former = os.umask(mask)
    try:
        yield
    finally:
        os.umask(former)


def wrong(out: Path, mask: int, *, more_than: int) -> dict[str, str]:
    """Return what has other permissions than a new file or directory has."""
    written = [path for path in out.rglob("*") if not path.is_symlink()]
    assert len(written) > more_than
    return {
        str(path.relative_to(out)): oct(found)
        for path in written
        if (found := stat.S_IMODE(path.stat().st_mode)) != (0o777 if path.is_dir() else 0o666) & ~mask
    }


@pytest.mark.slow
def test_every_file_has_the_permissions_of_a_new_one(
    cli: Cli, tiny_model: Path, tiny_data: TinyData, labelled: Path, tmp_path: Path
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
    mask = 0o002  # under which neither a private file nor one that only its owner may write looks right
    with umask(mask):
        codes = [cli(*line, out=out / str(line[0])).code for line in lines]
    assert codes == [0] * len(lines)
    assert wrong(out, mask, more_than=30) == {}


@pytest.mark.parametrize("mask", [0o022, 0o077], ids="umask {:03o}".format)
def test_so_has_whatever_another_library_or_a_directory_of_its_own_holds(
    tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path, mask: int
) -> None:
    detector, out = load_checkpoint(tiny_checkpoint), tmp_path / "runs"
    with umask(mask):
        save_checkpoint(detector, out / "calibrate" / "model.safetensors")
        build_openvino(tiny_onnx, out / "model_openvino", threads=1)
        write_json(out / "result.json", {})
        Study(out / "sensitivity" / "study.db", {}).close()
    assert wrong(out, mask, more_than=7) == {}
