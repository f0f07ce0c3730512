"""The command line: parses, shows and saves; the work is done by the pipelines."""

from yoloqat.cli.main import main

__all__ = ["main"]
