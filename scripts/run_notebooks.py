"""Run every notebook of examples/ in a kernel of its own, as CI does, outside pytest; an error in a cell ends it.

    python scripts/run_notebooks.py [NAME ...] [--out DIR]

Needs the extra `notebooks` (nbclient and ipykernel). Outputs go to DIR, if it is named, and never into examples/.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SECONDS = 300
"""A cell that takes longer is an error."""


def executed(path: Path) -> Any:
    """Return a notebook with its outputs.

    Args:
        path: The ``.ipynb`` file, which stays as it is.

    Raises:
        CellExecutionError: A cell failed; the message holds its traceback.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    return notebook


def run(argv: Sequence[str] | None = None) -> int:
    """Run them and print the seconds that each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="without .ipynb (default: all)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the notebooks with their outputs there")
    args = parser.parse_args(argv)
    paths = sorted(EXAMPLES.glob("*.ipynb"))
    unknown = sorted(set(args.names) - {path.stem for path in paths})
    if unknown:
        sys.stderr.write(f"no notebook '{unknown[0]}'; expected one of {', '.join(path.stem for path in paths)}\n")
        return 2
    missing = [name for name in ("nbformat", "nbclient", "ipykernel") if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"{missing[0]} is not installed; expected what runs notebooks; pip install 'yoloqat[notebooks]'\n"
        )
        return 2
    for path in paths:
        if args.names and path.stem not in args.names:
            continue
        start = time.perf_counter()
        notebook = executed(path)
        print(f"{path.name}: {time.perf_counter() - start:.0f} s")
        if args.out is not None:
            import nbformat

            args.out.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, args.out / path.name)
    return 0


if __name__ == "__main__":
    sys.exit(run())
