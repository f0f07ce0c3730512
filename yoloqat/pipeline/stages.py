"""The finished stages of long work, each found again by all that it depends on, so that a killed run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yoloqat.pipeline.run import Run
from yoloqat.provenance import finite, write_json

_FILE = "stage.json"


class Stages:
    """A chain of stages: each depends on its own settings and on all before it.

    Args:
        run: Keeps them.
        inputs: JSON-able values that identify what the first stage reads.
    """

    def __init__(self, run: Run, inputs: dict[str, Any]) -> None:
        self._run = run
        self._key = run.key(inputs=inputs)

    def once(self, name: str, make: Callable[[Path], dict[str, Any]], **settings: Any) -> tuple[dict[str, Any], Path]:
        """Do a stage, or find what it gave before.

        Args:
            name: Of the stage.
            make: Does it; takes the folder for its files and returns what else it found, JSON-able.
            settings: JSON-able values that the stage depends on.

        Returns:
            What it found, and the folder of its files. NaN and infinity come back as None, done now or found again.

        Raises:
            OutputError: It cannot be kept.
        """
        self._key = self._run.key(stage=name, after=self._key, settings=settings)
        folder = self._run.part_path(self._key, name)
        kept = folder / _FILE
        try:
            found = json.loads(kept.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            folder.mkdir(parents=True, exist_ok=True)
            found = finite(make(folder))[0]
            write_json(kept, found)  # last: a stage that is not written whole is done again
            found = json.loads(kept.read_text(encoding="utf-8"))
        return dict(found), folder
