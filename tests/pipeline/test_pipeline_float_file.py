from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from yoloqat.detectors import load_checkpoint
from yoloqat.detectors.detector import Source
from yoloqat.errors import ModelError
from yoloqat.pipeline.finetune import float_file


def test_the_file_that_a_checkpoint_was_made_from(tiny_checkpoint: Path, tiny_model: Path) -> None:
    assert float_file(load_checkpoint(tiny_checkpoint)).samefile(tiny_model)


@pytest.mark.parametrize("path", ["x" * 5000, "a/" + "x" * 300, "gone.pt", "/dev/zero", "/", "ä\u2028b.pt"])
def test_whatever_path_a_checkpoint_names_ends_in_one_line(tiny_checkpoint: Path, path: str) -> None:
    detector = replace(load_checkpoint(tiny_checkpoint), source=Source(path, "0" * 64))
    with pytest.raises(ModelError, match=re.escape(f"float model '{' '.join(path[:200].split())}' does not exist")):
        float_file(detector)
