"""A figure that a notebook shows and that is saved whole or not at all; no global state of pyplot is touched."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from yoloqat.provenance import atomic_path

_DPI = 130


class Picture(Figure):
    """A matplotlib figure that notebooks show without pyplot.

    Args:
        width: In inches.
        height: In inches.
    """

    def __init__(self, width: float, height: float, **rest: Any) -> None:
        super().__init__(figsize=(width, height), layout="constrained", **rest)
        FigureCanvasAgg(self)

    def to_png(self, dpi: int = _DPI) -> bytes:
        """Return the figure as a PNG.

        Args:
            dpi: Pixels per inch.
        """
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=dpi)
        return file.getvalue()

    def _repr_png_(self) -> bytes:
        return self.to_png(96)

    def save(self, path: Path) -> None:
        """Write the figure as a ``.png`` file, whole or not at all.

        Raises:
            OutputError: The file cannot be written.
        """
        with atomic_path(path) as temporary:
            self.savefig(temporary, dpi=_DPI)
